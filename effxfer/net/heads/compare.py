"""Heads that compare features with a row of numbers for each class: attributes, word vectors, sentence embeddings.

The rows are not learnt, so that a class without examples needs nothing but its row.

Shape legend: B examples, D features, C classes, E numbers of each class, K classes that were learnt.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from effxfer.net.heads.spec import Form
from effxfer.net.heads.standardize import TINY, Standardize

# Chosen: a probability from known classes is never surer than 1 in 1,000, else a single attribute would decide.
LEAST_PROBABILITY = 1e-3


class Compare(nn.Module):
    """Logits by a linear map of features and a table of classes; see `compare`.

    Args:
        form: How they are compared, see `HeadSpec`.
        features: D.
        classes: K, those of the table that it is made with.
        embeddings: E.

    Attributes:
        standardize: Subtracts the mean of training features, and divides by their deviation.
        map: From standardised features to E numbers; of the form `indirect`, to the K classes.
        table: The rows of its own classes, `(K, E)`, as they were given.
        centre: Mean of each column over its own classes, `(E,)`.
        prior: Log odds of each attribute over its own classes, `(E,)`; of the attribute forms, else zeros.
        scale: What logits are multiplied by, so that probabilities are likely ones.
        calibration: What known classes' logits are lowered by where new ones stand beside them; not applied here.
    """

    def __init__(self, form: Form, features: int, classes: int, embeddings: int) -> None:
        super().__init__()
        self.form: Form = form
        self.map = nn.Linear(features, classes if form == "indirect" else embeddings)
        self.standardize = Standardize(features)
        self.register_buffer("centre", torch.zeros(embeddings))
        self.register_buffer("prior", torch.zeros(embeddings))
        self.register_buffer("table", torch.zeros(classes, embeddings))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("calibration", torch.zeros(()))

    table: Tensor
    centre: Tensor
    prior: Tensor
    scale: Tensor
    calibration: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Map features `(B, D)` to logits of its own classes `(B, K)`."""
        return self.compare(x, self.table)

    def compare(self, x: Tensor, table: Tensor) -> Tensor:
        """Map features `(B, D)` and the rows of any classes `(C, E)` to logits `(B, C)`."""
        return self.scale * self.products(self.standardize(x), self.prepare(table))

    def embed(self, x: Tensor) -> Tensor:
        """Map features `(B, D)` into the space of the class embeddings, to length 1: `(B, E)`; of the form `cosine`."""
        mapped: Tensor = F.normalize(self.map(self.standardize(x)), dim=1, eps=TINY)
        return mapped

    def prepare(self, table: Tensor) -> Tensor:
        """Turn rows `(C, E)` into what features are compared with.

        These are attributes of 0 and 1, present above the mean of the known classes; or rows without that mean, of
        length 1.
        """
        if self.form in ("direct", "indirect"):
            return (table > self.centre).to(table.dtype)
        centred = table - self.centre
        unit: Tensor = centred / centred.norm(dim=1, keepdim=True).clamp_min(TINY)
        return unit

    def products(self, x: Tensor, table: Tensor) -> Tensor:
        """Compare standardised features `(B, D)` with prepared rows `(C, E)`: `(B, C)`, before the scale."""
        if self.form == "reconstruction":
            return _cosines(x, table @ self.map.weight)
        mapped = self.map(x)
        if self.form == "cosine":
            return _cosines(mapped, table)
        if self.form == "indirect":
            mapped = self.attribute_odds(mapped)
        products: Tensor = (mapped - self.prior) @ table.mT
        return products

    def attribute_odds(self, logits: Tensor) -> Tensor:
        """Turn logits of known classes `(B, K)` into log odds of attributes `(B, E)`."""
        present = F.softmax(logits, 1) @ self.prepare(self.table)
        return present.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY).logit()


def _cosines(x: Tensor, table: Tensor) -> Tensor:
    lengths = x.norm(dim=1, keepdim=True).clamp_min(TINY) * table.norm(dim=1).clamp_min(TINY)
    cosines: Tensor = (x @ table.mT) / lengths
    return cosines
