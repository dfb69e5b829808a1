"""Stay near the pretrained weights (L2-SP; Li et al., 2018, https://arxiv.org/abs/1802.01483)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.runtime.outputs.registry import ALL_KINDS
from effxfer.transfer.base import Strategy
from effxfer.transfer.regularized.reference_model import WithReference


class L2Sp(Strategy):
    """Fine-tune every weight, and pull the body's towards where they started: `alpha / 2 * |w - w0|^2`.

    `fit.weight_decay` pulls matrices towards zero beside it, the head's too; at 0 there is this pull alone.

    Attributes:
        alpha: Weight of the pull; 0 is plain fine-tuning. The paper's is between 0.01 and 1.
    """

    takes: ClassVar[frozenset[str]] = frozenset(ALL_KINDS)

    alpha: float = Field(default=0.1, ge=0)  # the middle of the paper's range, on a logarithmic scale

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Copy the initial weights."""
        super().prepare(net, tasks)
        return WithReference(net)

    def loss(self, learner: Any, batch: Any, progress: float) -> Mapping[str, Tensor]:
        """Cross-entropy and the pull."""
        return {**super().loss(learner, batch, progress), "pull": self.alpha / 2 * squared_drift(learner)}


def squared_drift(learner: WithReference) -> Tensor:
    """Return the squared distance of the body's trained weights from their initial values."""
    start = dict(learner.source.body.named_parameters())
    pairs = [(p, start[name]) for name, p in learner.body.named_parameters() if p.requires_grad]
    if not pairs:
        return next(learner.body.parameters()).new_zeros(())
    return torch.stack([(now - then).square().sum() for now, then in pairs]).sum()
