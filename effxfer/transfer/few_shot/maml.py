"""MAML: learn weights from which a few gradient steps solve an episode (Finn et al., 2017).

https://arxiv.org/abs/1703.03400.

Shape legend: E episodes per step, W ways (classes), K shots, Q queries, S side of images, D features, N = W * Q.
"""

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from effxfer.transfer.few_shot.episodes import Episode
from effxfer.transfer.few_shot.inner_loop import MetaLearner, classify, descend
from effxfer.transfer.few_shot.meta_learning import LearnedSteps


class Maml(LearnedSteps):
    """Train the body such that a few steps of body and classifier on the support images classify the queries.

    The exported file takes no steps: it compares with the nearest mean, which the steps start from.

    Attributes:
        steps: Inner steps; 0 with `start = "means"` is `prototypes`, but for the statistics of BatchNorm.
    """

    steps: int = Field(default=1, ge=0, le=100)  # the paper's on Omniglot

    def answer(self, learner: MetaLearner, episode: Episode) -> Tensor:
        """Return the logits `(N, W)` of an episode's queries behind the inner steps."""
        body = learner.body_weights()
        start = learner.classifier(learner.features(body, episode.support), episode.support_labels, episode.way)
        weights, _ = descend(
            lambda weights: F.cross_entropy(
                classify(weights, learner.features(weights, episode.support)), episode.support_labels
            ),
            {**body, **start}, self.steps, self.inner_lr,
            first_order=self.first_order, keep=learner.net.masks(),
        )  # fmt: skip
        return classify(weights, learner.features(weights, episode.queries))
