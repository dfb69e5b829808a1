"""Mixed precision, chosen by measurement: which blocks of a graph are worth quantizing, and which stay in float32.

What int8 gains depends on a block's neighbours (each border costs a conversion) and on the machine, so nothing is
estimated: a choice of blocks is a file, and the file is timed. From the better of the two ends, all or nothing in
int8, each block is turned over in turn; all turns that help are made at once, or the best one where together they do
not help, until none does. Where no single block pays for its two borders, the best stretch of neighbours is looked for.
If the answers are too far off, blocks go back to float32, the one first that takes the most of the error away for its
time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Chosen = frozenset[int]
CLOSER = 4  # stretches that are measured again


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One choice of blocks in int8.

    Attributes:
        ratio: Latency as a share of the float file's.
        spread: Half-width of the 95 % interval of that.
        error: Root mean square difference of logits from the float file's, as a share of the logits'.
    """

    ratio: float
    spread: float
    error: float


Measure = Callable[[Sequence[Chosen]], Mapping[Chosen, Measured]]


@dataclass(kw_only=True)
class Search:
    """A search for the fastest choice of blocks that is good enough.

    Attributes:
        count: Blocks.
        measure: Times and compares choices, side by side.
        fits: Says whether a choice is accurate enough; asked rarely.
        rounds: Rounds of turning blocks over, at most.
        known: All that was measured, latest figure.
        why: What came of it, in words.
    """

    count: int
    measure: Measure
    fits: Callable[[Chosen], bool]
    rounds: int = 3
    known: dict[Chosen, Measured] = field(default_factory=dict)
    why: str = ""

    def run(self) -> Chosen | None:
        """Give the blocks to quantize; None if nothing is both faster than float32 and accurate enough."""
        everything = frozenset(range(self.count))
        self.look([everything])
        at = everything if self.known[everything].ratio < 1 else frozenset()
        self.known.setdefault(frozenset(), Measured(ratio=1.0, spread=0.0, error=0.0))
        at = self.faster(at)
        if not at and (stretch := self.stretch()):
            at = self.faster(stretch)
        at = self.back_to_float(at)
        if not at:
            self.why = self.why or "no block was faster in int8 than in float32"
        return at or None

    def faster(self, at: Chosen) -> Chosen:
        """Turn blocks over as long as that saves time."""
        for _ in range(self.rounds):
            turned = {at ^ {block}: block for block in range(self.count)}
            self.look(turned)
            helps = sorted((c for c in turned if self.saves(c, at)), key=lambda c: self.known[c].ratio)
            if not helps:
                return at
            together = at
            for choice in helps:
                together ^= {turned[choice]}
            self.look([together, helps[0], *([at] if at else [])])
            best = min((together, helps[0]), key=lambda c: self.known[c].ratio)
            if not self.saves(best, at):
                return at
            at = best
        return at

    def stretch(self) -> Chosen:
        """Find the neighbouring blocks that gain most; nothing if none gain.

        A stretch costs what the blocks from its first to the last of all cost, and those from the first of all to its
        last, less everything: its two borders are counted once each. So 2 (count - 1) files tell which stretches to
        measure.
        """
        count, everything = self.count, frozenset(range(self.count))
        ahead, after = [frozenset(range(i)) for i in range(count)], [frozenset(range(i, count)) for i in range(count)]
        self.look([*ahead[1:], *after[1:], everything])
        whole = self.known[everything].ratio
        costs = {
            everything - ahead[first] - after[end]: self.known[after[first]].ratio
            + self.known[ahead[end]].ratio
            - whole
            for first in range(1, count)
            for end in range(first + 1, count)
            if whole < float("inf")
        }
        likely = [choice for choice in sorted(costs, key=costs.__getitem__) if costs[choice] < 1][:CLOSER]
        likely += sorted((*ahead[1:], *after[1:]), key=lambda choice: self.known[choice].ratio)[:CLOSER]
        self.look(likely)
        best = min(likely, key=lambda choice: self.known[choice].ratio, default=frozenset())
        return best if best and self.saves(best, frozenset()) else frozenset()

    def back_to_float(self, at: Chosen) -> Chosen:
        """Return blocks to float32 until the answers are good enough; give nothing if that takes all the gain."""
        if not at or self.fits(at):
            return at
        self.look(at - {block} for block in at)
        order = sorted(at, key=lambda block: self.worth(at, block), reverse=True)
        for block in order:
            at -= {block}
            if not at:
                break
            self.look([at])
            if self.known[at].ratio + self.known[at].spread >= 1:
                self.why = "blocks that keep the accuracy in float32 take all that int8 gains"
                return frozenset()
            if self.fits(at):
                return at
        self.why = "every block in int8 costs too much accuracy"
        return frozenset()

    def worth(self, at: Chosen, block: int) -> float:
        """Error that one block's return to float32 takes away, per share of time it costs."""
        here, there = self.known[at], self.known[at - {block}]
        if there.ratio == float("inf"):
            return -float("inf")
        return (here.error - there.error) / max(there.ratio - here.ratio, 0.005)

    def saves(self, choice: Chosen, at: Chosen) -> bool:
        """Say whether a choice is faster than another beyond what the clock leaves open."""
        here, there = self.known[at], self.known[choice]
        return here.ratio - there.ratio > max(0.005, (here.spread + there.spread) / 2)

    def look(self, choices: Iterable[Chosen]) -> None:
        """Measure choices, unless the float file itself is meant."""
        wanted = [choice for choice in dict.fromkeys(choices) if choice]
        if wanted:
            self.known.update(self.measure(wanted))
