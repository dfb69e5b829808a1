"""ANIL: learn features on which a few steps of the classifier alone solve an episode (Raghu et al., 2020).

"Almost No Inner Loop", https://arxiv.org/abs/1909.09157: the gradient passes through the steps.

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, S side of images, D features, N = W * Q.
"""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from effxfer.transfer.few_shot.episodes import Episode
from effxfer.transfer.few_shot.inner_loop import MetaLearner, classify, descend
from effxfer.transfer.few_shot.meta_learning import LearnedSteps


class Anil(LearnedSteps):
    """Train the body such that a few steps of a classifier on the support images classify the queries.

    The exported file takes no steps: it compares with the nearest mean, which the steps start from.

    Attributes:
        steps: Inner steps; 0 with `start = "means"` is `prototypes`.
    """

    steps: int = Field(default=5, ge=0, le=100)  # the paper's on mini-ImageNet

    def answer(self, learner: MetaLearner, episode: Episode) -> Tensor:
        """Return the logits `(N, W)` of an episode's queries behind the inner steps; all images pass at once."""
        images, count = torch.cat([episode.support, episode.queries]), len(episode.support)
        support, queries = learner.net.features(images).float().split([count, len(episode.queries)])
        start = learner.classifier(support, episode.support_labels, episode.way)
        weights, _ = descend(
            lambda weights: F.cross_entropy(classify(weights, support), episode.support_labels),
            start, self.steps, self.inner_lr, first_order=self.first_order,
        )  # fmt: skip
        return classify(weights, queries)
