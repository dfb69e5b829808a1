"""Select channels and blocks to remove for a latency: the knapsack of HALP, solved greedily.

Shen et al., 2022 (https://arxiv.org/abs/2110.10811): at most so many milliseconds, at least loss. A move takes several
channels from a group at once, so that it can jump a stair of the measured latency, or takes a whole residual block;
the best move saves most milliseconds per loss. The latency of what is left is the sum over its layers, each at the
widths that the groups on both of its sides have by then.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# A move without loss is not infinitely good: of several, that which saves most comes first.
TINY = 1e-6
# Chosen: 2,048 channels then go in steps of 64; each width of each group is priced in every step of the search.
MOST_WIDTHS = 32
# Chosen, a bound on the time: it ends before where no exchange improves.
EXCHANGES = 20


@dataclass(frozen=True, kw_only=True)
class Group:
    """Tied channels, which are removed together.

    Attributes:
        name: Name of the first of the tied layers.
        width: Current number of channels.
        least: Number of channels to keep at least, in [1, width].
        step: Widths that are tried are multiples of this; 1 tries all.
        loss: What the loss rises by without so many of the weakest channels, in [0, width - least]: 0 at 0, rising.
    """

    name: str
    width: int
    least: int
    step: int = 1
    loss: Callable[[int], float]

    def widths(self) -> tuple[int, ...]:
        """List the widths to try, descending: the present one, and at most 32 smaller ones, evenly spaced."""
        stride = self.step * max(1, -(-self.width // (self.step * MOST_WIDTHS)))
        first = (self.width - 1) // stride * stride
        return (self.width, *range(first, self.least - 1, -stride))


@dataclass(frozen=True, kw_only=True)
class Block:
    """A residual block that can be removed.

    Attributes:
        name: Name of the module.
        loss: Rise of the loss without the block, at least 0.
        inside: Groups whose channels are in no other place: without the block they cost no loss any more.
        pairs: By other block, what the loss rises by without both beyond the sum of their own; negative if it is less.
    """

    name: str
    loss: float
    inside: frozenset[str] = frozenset()
    pairs: Mapping[str, float] = field(default_factory=dict)

    def loss_beside(self, dropped: frozenset[str]) -> float:
        """Rise of the loss without the block where others are gone already."""
        return self.loss + sum(extra for name, extra in self.pairs.items() if name in dropped)


@dataclass(frozen=True, kw_only=True)
class PricedLayer:
    """A layer and its latency at any width.

    Attributes:
        name: Name of the module.
        inputs: Channels that it reads now.
        outputs: Channels that it writes now.
        reads: Inputs of the layer per channel, by group.
        writes: Outputs of the layer per channel, by group.
        blocks: The blocks that it is in.
        ms: Milliseconds for (inputs, outputs).
    """

    name: str
    inputs: int
    outputs: int
    reads: Mapping[str, int]
    writes: Mapping[str, int]
    blocks: frozenset[str] = frozenset()
    ms: Callable[[int, int], float]

    def cost(self, removed: Mapping[str, int], dropped: frozenset[str]) -> float:
        """Return its milliseconds without the removed channels of each group and the dropped blocks."""
        if self.blocks & dropped:
            return 0.0
        inputs = self.inputs - sum(removed[group] * each for group, each in self.reads.items())
        outputs = self.outputs - sum(removed[group] * each for group, each in self.writes.items())
        return self.ms(inputs, outputs)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The channels and blocks to remove, with the estimated latency and loss.

    Attributes:
        removed: Number of channels to remove, by group.
        dropped: The blocks that leave.
        ms: Milliseconds by the cost model.
        loss: Estimated rise of the loss, the sum over groups and blocks.
        reached: Whether it meets the target.
    """

    removed: Mapping[str, int]
    dropped: frozenset[str] = frozenset()
    ms: float
    loss: float
    reached: bool


def latency(layers: Sequence[PricedLayer], removed: Mapping[str, int], dropped: frozenset[str] = frozenset()) -> float:
    """Sum the latency of all layers, in milliseconds."""
    return sum(layer.cost(removed, dropped) for layer in layers)


def search(groups: Sequence[Group], blocks: Sequence[Block], layers: Sequence[PricedLayer], target: float) -> Choice:
    """Choose channels and blocks to remove so that the latency is at most `target` milliseconds, at a low loss.

    Args:
        groups: Groups at their current widths.
        blocks: Residual blocks that can be removed.
        layers: Layers with their costs.
        target: Target in milliseconds.

    Returns:
        The best configuration found; where none meets the target, the fastest one found, with `reached` false.
    """
    task = _Task(groups, blocks, layers)
    now = _Config({group.name: 0 for group in groups}, frozenset())
    ends = list[_Config]()
    while task.ms(now) > target:
        moves = list(task.moves(now))
        if not moves:
            break
        # The last move often overshoots: a cheaper one that is just enough is remembered.
        ends += [task.apply(now, move) for move in _sufficient_moves(moves, task.ms(now) - target)]
        now = task.apply(now, max(moves, key=_savings_per_loss))
    best = min((*ends, now), key=lambda end: task.rank(end, target))
    return task.choice(task.exchange(best, target), target)


class _Config(NamedTuple):
    removed: Mapping[str, int]
    dropped: frozenset[str]


class _Move(NamedTuple):
    """Reduce a group until `removed` channels are removed, or drop a block (`removed` is -1)."""

    name: str
    removed: int
    saved: float
    loss: float


def _savings_per_loss(move: _Move) -> tuple[float, float]:
    return move.saved / max(move.loss, TINY), move.saved


def _sufficient_moves(moves: Sequence[_Move], need: float) -> list[_Move]:
    """The cheapest of the moves that meet the target at once, if there are any."""
    enough = [move for move in moves if move.saved >= need]
    # Of equal losses that which saves least: it keeps most.
    return sorted(enough, key=lambda move: (move.loss, move.saved))[:1]


class _Task:
    def __init__(self, groups: Sequence[Group], blocks: Sequence[Block], layers: Sequence[PricedLayer]) -> None:
        self.groups, self.blocks, self.layers = groups, blocks, layers
        self.of = {g.name: [x for x in layers if g.name in x.reads or g.name in x.writes] for g in groups}
        self.neighbours = {name: sorted({n for x in of for n in (*x.reads, *x.writes)}) for name, of in self.of.items()}
        self.within = {block.name: [x for x in layers if block.name in x.blocks] for block in blocks}
        self.cached_moves: dict[tuple[object, ...], list[_Move]] = {}

    def ms(self, now: _Config) -> float:
        return latency(self.layers, now.removed, now.dropped)

    def loss(self, now: _Config) -> float:
        """Sum the loss of groups and dropped blocks; groups inside a dropped block add nothing."""
        left_out = [block for block in self.blocks if block.name in now.dropped]
        idle = frozenset[str]().union(*(block.inside for block in left_out))
        group_loss = sum(group.loss(now.removed[group.name]) for group in self.groups if group.name not in idle)
        # Every pair once: each block counts those with the blocks before it.
        block_loss = sum(
            block.loss_beside(frozenset(earlier.name for earlier in left_out[:number]))
            for number, block in enumerate(left_out)
        )
        return group_loss + max(0.0, block_loss)

    def rank(self, now: _Config, target: float) -> tuple[bool, float, float]:
        """Order configurations: those that meet the target by their loss, the others behind them by their time.

        Of equal losses the slower one comes first: what seems useless by the estimate may be useful in training.
        """
        ms = self.ms(now)
        return (True, ms, 0.0) if ms > target else (False, self.loss(now), -ms)

    def moves(self, now: _Config) -> Iterator[_Move]:
        """Yield all moves that save time; those of a group are cached while its neighbours are unchanged."""
        for group in self.groups:
            # A group's moves depend on its neighbours' widths alone, so that most of them
            # are known from the step before.
            key = (group.name, now.dropped, *(now.removed[name] for name in self.neighbours[group.name]))
            if key not in self.cached_moves:
                self.cached_moves[key] = [move for move in self.narrowing_moves(group, now) if move.saved > 0]
            yield from self.cached_moves[key]
        for block in self.blocks:
            saved = latency(self.within[block.name], now.removed, now.dropped)
            if saved > 0:
                spared = sum(group.loss(now.removed[group.name]) for group in self.groups if group.name in block.inside)
                yield _Move(block.name, -1, saved, max(0.0, block.loss_beside(now.dropped) - spared))

    def narrowing_moves(self, group: Group, now: _Config) -> Iterator[_Move]:
        layers, current = self.of[group.name], now.removed[group.name]
        ms, loss = latency(layers, now.removed, now.dropped), group.loss(current)
        for count in (group.width - width for width in group.widths()):
            if count > current:
                saved = ms - latency(layers, {**now.removed, group.name: count}, now.dropped)
                yield _Move(group.name, count, saved, max(0.0, group.loss(count) - loss))

    def apply(self, now: _Config, move: _Move) -> _Config:
        if move.removed < 0:
            return _Config(now.removed, now.dropped | {move.name})
        return _Config({**now.removed, move.name: move.removed}, now.dropped)

    def exchange(self, now: _Config, target: float) -> _Config:
        """Improve by exchanges: restore a step of a group, or a block, and make another move to meet the target."""
        for _ in range(EXCHANGES):
            now = self.restore(now, target)
            swaps = (self.meet_target(config, target) for config in self.wider_configs(now, nearest=True))
            best = min(swaps, key=lambda config: self.rank(config, target), default=now)
            if self.rank(best, target) >= self.rank(now, target):
                break
            now = best
        return now

    def meet_target(self, now: _Config, target: float) -> _Config:
        """Make the cheapest single move that meets the target, if it is missed and such a move exists."""
        ends = _sufficient_moves(list(self.moves(now)), self.ms(now) - target) if self.ms(now) > target else []
        return self.apply(now, ends[0]) if ends else now

    def restore(self, now: _Config, target: float) -> _Config:
        """Restore channels and blocks while the target holds: the largest gain first, those without loss last."""
        while self.ms(now) <= target:
            best = min(self.wider_configs(now), key=lambda config: self.rank(config, target), default=now)
            if self.rank(best, target) >= self.rank(now, target):
                break
            now = best
        return now

    def wider_configs(self, now: _Config, *, nearest: bool = False) -> Iterator[_Config]:
        """Yield the configurations with one wider group (any width, or the next one only), or one more block."""
        for group in self.groups:
            fewer = [count for w in group.widths() if (count := group.width - w) < now.removed[group.name]]
            for count in fewer[-1:] if nearest else fewer:
                yield _Config({**now.removed, group.name: count}, now.dropped)
        for name in sorted(now.dropped):
            yield _Config(now.removed, now.dropped - {name})

    def choice(self, now: _Config, target: float) -> Choice:
        """Make the result; groups inside a dropped block keep all channels."""
        idle = frozenset[str]().union(*(block.inside for block in self.blocks if block.name in now.dropped))
        # They leave with their block; removing channels first would be work for nothing.
        removed = {name: 0 if name in idle else count for name, count in now.removed.items()}
        ms = latency(self.layers, removed, now.dropped)
        return Choice(removed=removed, dropped=now.dropped, ms=ms, loss=self.loss(now), reached=ms <= target)
