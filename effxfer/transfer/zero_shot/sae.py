"""SAE: a semantic autoencoder (Kodirov et al., 2017, https://arxiv.org/abs/1704.08345).

One map takes features to class embeddings, and its transpose takes them back: a Sylvester equation.

Shape legend: N examples, D features, K classes with examples, E numbers of each class.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.zero_shot.known_classes import examples_of
from effxfer.transfer.zero_shot.zero_shot import ZeroShot


class Sae(ZeroShot):
    """Solve a linear autoencoder whose code is the class embedding; the body stands still.

    Attributes:
        weight: Of the encoder's error beside the decoder's, above 0; both are means over numbers of variance 1.
        direction: Compare in the space of `classes`, to which features are encoded, or in that of `features`, to which
            class embeddings are decoded.
    """

    solves: ClassVar[bool] = True

    weight: float = Field(default=1.0, gt=0)
    direction: Literal["classes", "features"] = "classes"

    def head(self) -> Mapping[str, Any] | None:
        """Return the `HeadSpec` of a head that compares by the angle."""
        return {"kind": "compare", "form": "cosine" if self.direction == "classes" else "reconstruction"}

    @torch.no_grad()
    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Solve the map."""
        form = "cosine" if self.direction == "classes" else "reconstruction"
        features, labels, table = examples_of(net, tasks[-1], form)  # type: ignore[arg-type]
        net.head.get_parameter("map.weight").copy_(tied_autoencoder(features, table[labels], self.weight))
        net.head.get_parameter("map.bias").zero_()
        return net


def tied_autoencoder(features: Tensor, codes: Tensor, weight: float) -> Tensor:
    """Minimise `|X - S W|^2 + weight * |X W' - S|^2`, which `S'S W + weight * W X'X = (1 + weight) S'X` solves.

    Args:
        features: X, standardised, `(N, D)`.
        codes: S, rows of length 1, `(N, E)`; they are brought to variance 1 first.
        weight: Above 0.

    Returns:
        W, `(E, D)`.
    """
    count = len(features)
    codes = codes * sqrt(codes.shape[1])
    # Both are symmetric: in their eigenvectors the equation is a division.
    a, code_basis = torch.linalg.eigh(codes.mT @ codes / count)
    b, feature_basis = torch.linalg.eigh(weight * features.mT @ features / count)
    product = (1 + weight) * codes.mT @ features / count
    # Rounding may leave eigenvalues of 0 a little below it, and both of them 0: then the product is 0, too.
    sums = (a[:, None].clamp_min(0) + b.clamp_min(0)).clamp_min(torch.finfo(a.dtype).eps)
    solution: Tensor = code_basis @ (code_basis.mT @ product @ feature_basis / sums) @ feature_basis.mT
    return solution
