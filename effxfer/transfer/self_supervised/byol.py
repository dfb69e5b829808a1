"""BYOL: predict what a slow copy of the network says of the other view (Grill et al., 2020).

https://arxiv.org/abs/2006.07733.

Shape legend: B images, P units of the projection.
"""

from collections.abc import Mapping, Sequence
from math import cos, pi

from pydantic import Field
from torch import Tensor, nn

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.self_supervised.collapse import watch_collapse
from effxfer.transfer.self_supervised.projection import Projected, full_precision, perceptron
from effxfer.transfer.self_supervised.slow_copy import SlowCopy
from effxfer.transfer.self_supervised.two_views import TwoViews, negative_cosine


class Byol(TwoViews):
    """Predict the slow copy's projection of one view from the network's projection of the other.

    Attributes:
        momentum: Share of the slow copy that stays at the first step; it rises to 1 by a half cosine. The paper's
            is 0.996, for a million steps.
        hidden: Units of the hidden layers of projection and predictor, which are discarded; 4,096 in the paper.
        width: Units of their last layers.
    """

    momentum: float = Field(default=0.99, ge=0, lt=1)
    hidden: int = Field(default=512, ge=2)
    width: int = Field(default=128, ge=2)

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Add the projection, the predictor and the slow copy."""
        super().prepare(net, tasks)
        return watch_collapse(Bootstrap(net, self.hidden, self.width), tasks[-1].val)

    def begin_epoch(self, learner: "Bootstrap", progress: float) -> None:
        """Let the slow copy normalise by its batches, as the network does."""
        super().begin_epoch(learner, progress)
        learner.slow.train()

    def loss(self, learner: "Bootstrap", batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the mean of both predictions' negative cosines."""
        predicted = learner.predictor(learner.project(batch)).float().chunk(2)
        first, second = learner.slow.project(batch).chunk(2)
        with full_precision(first):
            likeness = negative_cosine(predicted[0], second) + negative_cosine(predicted[1], first)
        return {"likeness": likeness / 2}

    def after_step(self, learner: "Bootstrap", steps: int, progress: float) -> None:
        """Move the slow copy."""
        learner.slow.follow_(learner, self.momentum_at(progress))

    def momentum_at(self, progress: float) -> float:
        """Return the momentum at a progress in [0, 1).

        >>> [round(Byol().momentum_at(progress), 4) for progress in (0, 0.5, 1)]
        [0.99, 0.995, 1.0]
        """
        return 1 - (1 - self.momentum) * (cos(pi * progress) + 1) / 2


class Bootstrap(Projected):
    """A network with a projection, a predictor, and a slow copy of network and projection."""

    def __init__(self, net: Net, hidden: int, width: int) -> None:
        super().__init__(net, [hidden, width])
        self.predictor = perceptron([width, hidden, width])
        self.slow = SlowCopy(self)
