"""AdaBN: after training on the source, take the BatchNorm statistics of the target (Li et al., 2016).

https://arxiv.org/abs/1603.04779. Closed form, without a gradient: what the domains differ in is often a shift and a
scale of each channel.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch.nn.modules.batchnorm import _BatchNorm

from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.net.recalibrate import recalibrate_
from effxfer.transfer.base import Strategy, unwrap
from effxfer.transfer.domain_adaptation.domain_batches import require_target, target_batches


class AdaBn(Strategy):
    """Train all weights on the source; then the statistics of BatchNorm become those of the target.

    Examples of the target come from `data.target` or `data.unlabelled`. The network is then one for the target. Of a
    trained network, no epochs leave all weights as they are.

    Attributes:
        share: Share of the target in the statistics, in [0, 1]; 0 is training on the source.
        images: Most examples of the target that are averaged.
    """

    inputs: ClassVar[frozenset[str]] = frozenset({"image", "vector"})
    adapts_domain: ClassVar[bool] = True

    share: float = Field(default=1.0, ge=0, le=1)
    # Chosen: a channel's mean is then known to a fiftieth of its deviation, even from one number of each example.
    images: int = Field(default=2048, ge=2)

    def prepare(self, net: Net, tasks: Sequence[Task]) -> Net:
        """Check that there are statistics, and a target.

        Raises:
            SettingsError: If the network has no BatchNorm, or the task no target.
        """
        if not any(isinstance(module, _BatchNorm) and module.track_running_stats for module in net.body.modules()):
            hint = "take another strategy, such as mcc or self_training, or a network with BatchNorm"
            raise SettingsError("adabn changes statistics of BatchNorm, and this network has none", hint)
        require_target(tasks[-1])
        super().prepare(net, tasks)
        return net

    @contextmanager
    def as_finished(self, learner: Any, tasks: Sequence[Task]) -> Iterator[None]:
        """Give the network the target's statistics in the block."""
        net = unwrap(learner)
        before = {name: buffer.clone() for name, buffer in net.body.named_buffers()}
        self._adapt(net, tasks[-1])
        try:
            yield
        finally:
            for name, buffer in net.body.named_buffers():
                buffer.copy_(before[name])

    def finish(self, learner: Any, tasks: Sequence[Task]) -> Net:
        """Give the network the target's statistics."""
        net = super().finish(learner, tasks)
        self._adapt(net, tasks[-1])
        return net

    @torch.no_grad()
    def _adapt(self, net: Net, task: Task) -> None:
        norms = [m for m in net.body.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        before = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]  # type: ignore[union-attr]
        recalibrate_(net.body, target_batches(net, task, self.batch, self.images))
        for norm, (mean, variance) in zip(norms, before, strict=True):
            norm.running_mean.copy_(mean.lerp(norm.running_mean, self.share))  # type: ignore[union-attr,arg-type]
            norm.running_var.copy_(variance.lerp(norm.running_var, self.share))  # type: ignore[union-attr,arg-type]
