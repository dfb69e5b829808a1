"""Relation networks: learn the comparison of a query with a class, beside the features (Sung et al., 2018).

https://arxiv.org/abs/1711.06025.

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, S side of images, D features, N = W * Q.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from effxfer.net.heads.prototypes import class_means
from effxfer.transfer.few_shot.episodes import split_episode
from effxfer.transfer.few_shot.episodic import Episodic


class RelationNet(Episodic):
    """Train the body and a comparison on episodes; the comparison is part of the exported graph.

    It takes a feature and the mean feature of a class, side by side. The paper adds up the maps of a class's images,
    and compares by convolutions; here these are vectors, and a mean does not grow with the number of images.

    Attributes:
        width: Hidden units of the comparison.
    """

    width: int = Field(default=64, ge=1, le=65536)

    def head(self) -> Mapping[str, Any]:
        """Return the `HeadSpec` of a head of prototypes with a learned comparison."""
        return {"kind": "prototypes", "distance": "relation", "hidden": self.width}

    def episode_losses(self, head: Any, features: Tensor) -> Tensor:
        """Return the cross-entropy of one episode with features `(W, K + Q, D)`."""
        episode = split_episode(features, self.shot)
        scores = head.compare(episode.queries, class_means(episode.support, episode.support_labels, len(features)))
        return F.cross_entropy(scores, episode.labels, label_smoothing=self.label_smoothing)
