"""DAN: minimise the maximum mean discrepancy between two domains, with several kernels (Long et al., 2015).

https://arxiv.org/abs/1502.02791.

Shape legend: B examples of each domain, D features.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from effxfer.data.batches.batches import Batches
from effxfer.data.task import Task
from effxfer.errors import SettingsError, did_you_mean
from effxfer.net.net import Net
from effxfer.net.taps import capture_taps
from effxfer.transfer.base import Strategy
from effxfer.transfer.domain_adaptation.domain_batches import DomainBatch, Statistics, domain_features, draw_domains

# The paper's: Gaussian kernels whose widths are these multiples of the mean squared distance.
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


class Dan(Strategy):
    """Fine-tune all weights on a source domain, and bring the distribution of a target's features close to it.

    Examples of the target come from `data.target` or `data.unlabelled`; an epoch is a pass over the labelled examples.

    Attributes:
        weight: Weight of the discrepancy; 0 is training on the source, except that BatchNorm sees both domains.
        taps: Layers of the body whose outputs are matched beside the features, by name; none are the null value.
        statistics: BatchNorm statistics, as for `dann`.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"single"})
    of_images: ClassVar[bool] = False
    compares_examples: ClassVar[bool] = True
    adapts_domain: ClassVar[bool] = True

    weight: float = Field(default=1.0, ge=0)
    taps: tuple[str, ...] = ()
    statistics: Statistics = "joint"

    def prepare(self, net: Net, tasks: Sequence[Task]) -> Net:
        """Check the names of layers.

        Raises:
            SettingsError: If the body has no such layer.
        """
        layers = dict(net.body.named_modules())
        for name in self.taps:
            if name not in layers:
                raise SettingsError(f"options.taps: no layer {name!r}{did_you_mean(name, layers)}", "name a layer")
        super().prepare(net, tasks)
        return net

    def draw(self, learner: Any, tasks: Sequence[Task], device: torch.device) -> Callable[[int], Batches]:
        """Return batches of both domains, see `draw_domains`."""
        return draw_domains(tasks, self.batch, self.augment, device, self.balance)

    def loss(self, learner: Net, batch: DomainBatch, progress: float) -> Mapping[str, Tensor]:
        """Return the cross-entropy of the labels, and the discrepancy, averaged over the matched layers."""
        inputs, labels, target_inputs, *_ = batch
        statistics: Statistics = "joint" if self.taps else self.statistics
        with capture_taps(learner.body, self.taps) as outputs:
            source, target = domain_features(learner, inputs, target_inputs, statistics)
        label = F.cross_entropy(learner.head(source), labels, label_smoothing=self.label_smoothing)
        both = torch.cat([inputs, target_inputs])
        pairs = [(source, target)]
        for name in self.taps:
            first, second = learner.pool_tap(outputs[name], both).split([len(inputs), len(target_inputs)])
            pairs.append((first, second))
        # In float32: differences of means of kernels lose digits in half precision.
        values = [mean_discrepancy(first.float(), second.float()) for first, second in pairs]
        return {"label": label, "discrepancy": self.weight * torch.stack(values).mean()}


def mean_discrepancy(source: Tensor, target: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy of features `(B, D)`, at least 0; 0 if both are equal.

    The kernel is the mean of Gaussians; their widths follow the data and have no gradient.
    """
    both = torch.cat([source, target])
    squares = torch.cdist(both, both).square()
    mean = (squares.detach().sum() / (len(both) * (len(both) - 1))).clamp_min(1e-9)
    kernel = torch.stack([(-squares / (width * mean)).exp() for width in WIDTHS]).mean(0)
    count = len(source)
    within = kernel[:count, :count].mean() + kernel[count:, count:].mean()
    return within - 2 * kernel[:count, count:].mean()
