"""Probe, then fine-tune: a fresh head does not distort good features (LP-FT).

Kumar et al., 2022, https://arxiv.org/abs/2202.10054.
"""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import nn

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.transfer.base import Strategy
from effxfer.transfer.fine_tuning.linear import features_of, solve_


class LpFt(Strategy):
    """Solve the head on the frozen body's features, to the end; then fine-tune every weight.

    The probe costs one pass over the training images. With `fit.epochs = 0` the probe is all there is.

    Attributes:
        l2: Of the probe's weights, at least 0; large ones keep its head near zero, where plain fine-tuning starts.
    """

    # The places of an answer are a choice among all positions of a text, which no stored vector holds.
    takes: ClassVar[frozenset[str]] = frozenset({"multi", "single", "tags", "value"})

    l2: float = Field(default=1e-3, ge=0)  # chosen, not measured: 0 runs to infinity on separable data

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Solve the head."""
        # Before anything is frozen or held, on the features as they were pretrained.
        solve_(net.head, *features_of(net, tasks[-1]), self.l2, net.output)
        return super().prepare(net, tasks)
