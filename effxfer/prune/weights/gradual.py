"""Gradual pruning: the mask shrinks during one training (Zhu & Gupta, 2017, https://arxiv.org/abs/1710.01878)."""

from collections.abc import Callable
from dataclasses import dataclass

from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.prune.weights.lottery import Rank, by_magnitude
from effxfer.prune.weights.mask import Mask
from effxfer.prune.weights.select import Scope, select


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """Sparsity after each step: a cubic ramp, steep at first, that depends on the step alone.

    Attributes:
        first: The step from which it rises, at least 0.
        last: The step at which it arrives, at least `first`.
        every: Steps between two prunings, at least 1.
        start: The sparsity before, in [0, 1).
        final: The sparsity after, in [start, 1); `start` removes nothing.
    """

    first: int
    last: int
    every: int
    start: float
    final: float

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last or self.every < 1:
            raise SettingsError(f"no steps: from {self.first} to {self.last}, every {self.every}", code="E204")
        if not 0 <= self.start <= self.final < 1:
            hint = "a ticket only shrinks: ask for more than it has lost already"
            raise SettingsError(f"sparsity must be in [{self.start:.4g}, 1), not {self.final}", hint, code="E204")

    def sparsity_at(self, step: int) -> float:
        """Return the sparsity after a number of steps.

        >>> [round(Ramp(first=0, last=4, every=1, start=0.0, final=0.8).sparsity_at(step), 3) for step in (0, 2, 4, 9)]
        [0.0, 0.7, 0.8, 0.8]
        """
        if step >= self.last:
            return self.final
        if step < self.first:
            return self.start
        remaining = 1 - (step - self.first) / (self.last - self.first)
        # Cubic, as in the paper: most goes early, while there is training left to recover.
        return self.final + (self.start - self.final) * remaining**3

    def is_due(self, step: int) -> bool:
        """Whether to prune after a step: every `every` steps of the ramp, and at its end."""
        return step == self.last or (self.first <= step < self.last and (step - self.first) % self.every == 0)


def make_pruning_hook(
    net: Net, mask: Mask, ramp: Ramp, *, score: Rank = by_magnitude, scope: Scope = "global"
) -> Callable[[int], None]:
    """Make the hook that training calls with the number of completed steps after each one.

    The mask lives in the network, and so in the checkpoints of its training: one that was cut off goes on exactly.

    Args:
        net: Learns to hold `mask` now, because a checkpoint only loads into a network that has masks.
        mask: Mask of the remaining weights; other layers are not pruned.
        ramp: When to prune how much.
        score: See `find_ticket`.
        scope: See `select`.
    """
    mask.store_(net)
    names = list(mask.keep)

    def after_step(step: int) -> None:
        if ramp.is_due(step):
            current = Mask({name: net.masks()[name] for name in names})
            # A ticket from before may be sparser than the ramp's beginning.
            target = max(ramp.sparsity_at(step), current.sparsity)
            select(score(net, current), current, sparsity=target, scope=scope).store_(net)

    return after_step
