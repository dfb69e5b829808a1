"""Two towers with a projection each into one space: the module that is trained on pairs.

Shape legend: B batch, D features of a tower, E numbers of an embedding.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from effxfer.net.heads.compare import Compare
from effxfer.net.net import Net
from effxfer.transfer.image_text.contrastive import infonce_loss, positive_pairs, sigmoid_loss
from effxfer.transfer.self_supervised.projection import full_precision

Objective = Literal["infonce", "sigmoid"]
Towers = Literal["none", "image", "text", "both"]
# Where the papers begin: 1 / 0.07 for the softmax, 10 and -10 for the sigmoid.
FIRST_SCALE = {"infonce": 1 / 0.07, "sigmoid": 10.0}
FIRST_BIAS = -10.0
# CLIP's, which prevents instability.
LARGEST_SCALE = 100.0


class Pairs(NamedTuple):
    """A batch of pairs.

    Attributes:
        images: Inputs of the image tower `(B, ...)`, or its features `(B, D)` where it is frozen.
        texts: Inputs of the text tower `(B, n)`, or its features `(B, D)` where it is frozen.
        captions: Number of each text, int64 `(B,)`; equal texts have one number.
    """

    images: Tensor
    texts: Tensor
    captions: Tensor


class DualEncoder(nn.Module):
    """The heads of two networks, the scale of their cosines, and the towers that are trained.

    Frozen towers are no part of it: checkpoints hold what changes.

    Args:
        image: Network of images with a cosine head.
        text: Network of texts with a cosine head of the same width.
        towers: Which towers are trained.
        objective: The loss.
    """

    def __init__(self, image: Net, text: Net, towers: Towers, objective: Objective) -> None:
        super().__init__()
        heads = {"image": image.head, "text": text.head}
        for head in heads.values():
            assert isinstance(head, Compare)
        self.objective: Objective = objective
        self.image_head, self.text_head = heads["image"], heads["text"]
        # In a tuple, so that they are no submodules: `body` holds the trained ones.
        self._nets = (image, text)
        trained = {name: net for name, net in (("image", image), ("text", text)) if towers in (name, "both")}
        self.body = nn.ModuleDict({name: net.body for name, net in trained.items()})
        for net in self._nets:
            net.requires_grad_(False)
            net.head.get_submodule("map").requires_grad_(True)
        self.body.requires_grad_(True)
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE[objective])))
        self.bias = nn.Parameter(torch.tensor(FIRST_BIAS), requires_grad=objective == "sigmoid")

    def embed(self, tower: Literal["image", "text"], x: Tensor) -> Tensor:
        """Map inputs of a trained tower, or features of a frozen one `(B, D)`, to embeddings of length 1, `(B, E)`."""
        net = self._nets[tower == "text"]
        features = net.features(x) if tower in self.body else x
        embeddings: Tensor = net.head.embed(features.float())  # type: ignore[operator]
        return embeddings

    def loss(self, batch: Pairs) -> Mapping[str, Tensor]:
        """Return the contrast of a batch of pairs."""
        images, texts = self.embed("image", batch.images), self.embed("text", batch.texts)
        positive = positive_pairs(batch.captions)
        with full_precision(images):
            images, texts, scale = images.float(), texts.float(), self.log_scale.exp()
            if self.objective == "sigmoid":
                return {"contrast": sigmoid_loss(images, texts, scale, self.bias, positive)}
            return {"contrast": infonce_loss(images, texts, scale, positive)}


def loss_of(learner: Any, batch: Any, _progress: float) -> Mapping[str, Tensor]:
    """Return the loss of a `DualEncoder`, as `fit` calls it."""
    terms: Mapping[str, Tensor] = learner.loss(batch)
    return terms
