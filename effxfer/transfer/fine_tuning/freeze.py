"""Train only the upper part of a network (Yosinski et al., 2014, https://arxiv.org/abs/1411.1792)."""

from collections.abc import Sequence
from typing import ClassVar

from pydantic import field_validator
from torch import nn

from effxfer.data.task import Task
from effxfer.errors import SettingsError, did_you_mean
from effxfer.net.net import Net
from effxfer.runtime.outputs.registry import ALL_KINDS
from effxfer.train.optim.param_groups import block, blocks_of, is_head
from effxfer.transfer.base import Strategy


class Freeze(Strategy):
    """Freeze the body from the input up to a block, its BatchNorm included, and train the rest.

    Attributes:
        until: The last frozen block, such as `blocks.3` or `stage2`, or the share of blocks to freeze, in [0, 1]: 0 is
            plain fine-tuning, 1 trains the head and the BatchNorm parts that `batchnorm` selects.
    """

    takes: ClassVar[frozenset[str]] = frozenset(ALL_KINDS)

    until: str | float = 0.5  # chosen: half of the blocks; early layers are general (Yosinski et al. 2014)

    @field_validator("until")
    @classmethod
    def _is_share(cls, value: str | float) -> str | float:
        if not isinstance(value, str) and not 0 <= value <= 1:
            raise ValueError("should be the name of a block, or a share in [0, 1]")
        return value

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the lower blocks.

        Raises:
            SettingsError: If there is no block `until`; the hint lists the blocks.
        """
        frozen = lowest_blocks(blocks_of(name for name, _ in net.named_parameters()), self.until)
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(is_head(name) or block(name) not in frozen)
        return super().prepare(net, tasks)


def lowest_blocks(blocks: Sequence[str], until: str | float) -> Sequence[str]:
    """Return the lower blocks of a body, up to and including a named one, or a share of them."""
    if not isinstance(until, str):
        return blocks[: round(until * len(blocks))]
    if until not in blocks:
        hint = f"its blocks are: {', '.join(blocks)}"
        raise SettingsError(f"freeze: the body has no block {until!r}{did_you_mean(until, blocks)}", hint)
    return blocks[: list(blocks).index(until) + 1]
