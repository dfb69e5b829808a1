"""Matching networks: learn features whose attention over a few labelled examples classifies (Vinyals et al., 2016).

https://arxiv.org/abs/1606.04080. Features do not depend on the rest of an episode: the paper's full context embeddings,
which helped on ImageNet and not on Omniglot, would need the whole support in the graph.

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, S side of images, D features, N = W * Q.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from effxfer.net.heads.prototypes import prototype_logits
from effxfer.net.heads.spec import Metric
from effxfer.transfer.few_shot.episodes import split_episode
from effxfer.transfer.few_shot.episodic import Episodic


class Matching(Episodic):
    """Train the whole body on episodes: a query takes the labels of the support images that it resembles.

    The exported file compares with the mean of a class's images, so that its table has a row for each class. With one
    image of a class this is the attention that was trained, with several an approximation of it.

    Attributes:
        distance: `cosine`, the paper's, or `euclidean`.
    """

    distance: Metric = "cosine"

    def head(self) -> Mapping[str, Any]:
        """Return the `HeadSpec` of a head of prototypes."""
        return {"kind": "prototypes", "distance": self.distance}

    def episode_losses(self, head: Any, features: Tensor) -> Tensor:
        """Return the cross-entropy of one episode with features `(W, K + Q, D)`."""
        episode = split_episode(features, self.shot)
        similarity = prototype_logits(episode.queries, episode.support, self.distance)
        return F.cross_entropy(attention(similarity, self.shot), episode.labels, label_smoothing=self.label_smoothing)


def attention(similarity: Tensor, shot: int) -> Tensor:
    """Return logits of classes `(N, W)`, whose softmax is the sum of the attention on each class's examples.

    Args:
        similarity: Of queries and support examples `(N, W * K)`, class by class; attention is its softmax.
        shot: K.
    """
    by_class: Tensor = similarity.unflatten(1, (-1, shot)).logsumexp(2)
    return by_class
