"""Prototypical networks: learn features in which a class is one point (Snell et al., 2017).

https://arxiv.org/abs/1703.05175.

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, S side of images, D features.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from effxfer.net.heads.prototypes import class_means, prototype_logits
from effxfer.net.heads.spec import Metric
from effxfer.transfer.few_shot.episodes import (
    split_episode,
)
from effxfer.transfer.few_shot.episodic import Episodic


class PrototypeNet(Episodic):
    """Train the whole body on episodes: classify query images by the mean features of a few support images.

    The head then holds one prototype per class, the mean of the training images' features. An exported file takes
    prototypes of new classes as an input. Accuracy on new classes is measured on `data.target`.

    Attributes:
        distance: `euclidean` or `cosine`.
    """

    distance: Metric = "euclidean"

    def head(self) -> Mapping[str, Any]:
        """Return the `HeadSpec` of a head of prototypes."""
        return {"kind": "prototypes", "distance": self.distance}

    def episode_losses(self, head: Any, features: Tensor) -> Tensor:
        """Return the cross-entropy of one episode with features `(W, K + Q, D)`."""
        episode = split_episode(features, self.shot)
        prototypes = class_means(episode.support, episode.support_labels, len(features))
        logits = prototype_logits(episode.queries, prototypes, self.distance)
        return F.cross_entropy(logits, episode.labels, label_smoothing=self.label_smoothing)
