"""SimSiam: predict one view from the other, with a stopped gradient (Chen & He, 2020).

https://arxiv.org/abs/2011.10566.

Shape legend: B images, P units of the projection.
"""

from collections.abc import Mapping, Sequence

from pydantic import Field
from torch import Tensor, nn

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.self_supervised.collapse import watch_collapse
from effxfer.transfer.self_supervised.projection import Projected, full_precision, perceptron
from effxfer.transfer.self_supervised.two_views import TwoViews, negative_cosine


class SimSiam(TwoViews):
    """Predict the projection of one view from that of the other, which is a constant for the gradient.

    Attributes:
        width: Units of each layer of the projection, which is discarded; 2,048 in the paper.
        hidden: Units of the predictor's hidden layer; a quarter of `width` in the paper.
        stop_gradient: Whether the projection that is predicted is a constant; without that, features collapse.
    """

    width: int = Field(default=512, ge=2)
    hidden: int = Field(default=128, ge=2)
    stop_gradient: bool = True

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Add the projection and the predictor."""
        super().prepare(net, tasks)
        return watch_collapse(Siamese(net, self.width, self.hidden), tasks[-1].val)

    def loss(self, learner: "Siamese", batch: Tensor, progress: float) -> Mapping[str, Tensor]:
        """Return the mean of both predictions' negative cosines."""
        projected = learner.project(batch)
        predicted = learner.predictor(projected).float().chunk(2)
        # Of the batch as it is: both branches have the weights of this step.
        first, second = (projected.detach() if self.stop_gradient else projected).chunk(2)
        with full_precision(projected):
            likeness = negative_cosine(predicted[0], second) + negative_cosine(predicted[1], first)
        return {"likeness": likeness / 2}


class Siamese(Projected):
    """A network with a projection, and a predictor of one view's projection from the other's."""

    def __init__(self, net: Net, width: int, hidden: int) -> None:
        super().__init__(net, [width] * 3, normalize_last=True)
        self.predictor = perceptron([width, hidden, width])
