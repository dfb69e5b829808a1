"""Gradual unfreezing, top to bottom (ULMFiT; Howard & Ruder, 2018, https://arxiv.org/abs/1801.06146)."""

from typing import Any, ClassVar

from pydantic import Field

from effxfer.runtime.outputs.registry import ALL_KINDS
from effxfer.train.optim.param_groups import block, blocks_of, is_head
from effxfer.transfer.base import Strategy


class Unfreeze(Strategy):
    """Train the head first, then unfreeze the body block by block, from the top down.

    The paper's discriminative learning rates are `fit.layer_decay` (1 / 2.6 per layer in the paper); its slanted
    triangular schedule is `fit.schedule = "linear"` with `fit.warmup`. Frozen blocks do not change, BatchNorm included.

    Attributes:
        over: Share of the training until the whole body is trained, in [0, 1]; 0 is plain fine-tuning. Blocks are
            unfrozen at the start of an epoch.
    """

    takes: ClassVar[frozenset[str]] = frozenset(ALL_KINDS)

    over: float = Field(default=0.5, ge=0, le=1)  # chosen: the lowest block still has half of the training

    def begin_epoch(self, learner: Any, progress: float) -> None:
        """Freeze the blocks that are not yet trained."""
        named = [(name, p) for name, p in learner.named_parameters()]
        blocks = blocks_of(name for name, _ in named)
        waiting = set(blocks[: len(blocks) - count_learning_blocks(len(blocks), progress, self.over)])
        for name, parameter in named:
            parameter.requires_grad_(is_head(name) or block(name) not in waiting)
        super().begin_epoch(learner, progress)


def count_learning_blocks(blocks: int, progress: float, over: float) -> int:
    """Count the blocks of a body that are trained at a progress in [0, 1).

    >>> [count_learning_blocks(4, step / 10, 0.5) for step in range(6)]
    [0, 1, 2, 3, 4, 4]
    """
    if progress >= over:
        return blocks
    # One step more than blocks: at first the head alone.
    return int(progress / over * (blocks + 1))
