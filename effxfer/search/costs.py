"""A model of a head's latency, fitted to measurements: the body, cut, plus pools, plus the classifier.

Shape legend: ms, milliseconds of one image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from effxfer.search.space import JOIN, Candidate


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Latencies measured on exported graphs.

    Attributes:
        body: p50 of the body that ends at the deepest of a set of layers, by the set's name.
        pools: p50 of each pool on each layer, by `pool layer`, at its smallest and at its largest.
        sizes: Smallest and largest size (queries or rank) of each pool.
        base: p50 of a classifier of no size.
        per_million: More p50 for each million of a classifier's parameters.
        millions: Parameters of the body that ends at the deepest of a set of layers, in millions.
    """

    body: Mapping[str, float]
    pools: Mapping[str, tuple[float, float]]
    sizes: Mapping[str, tuple[int, int]]
    base: float
    per_million: float
    millions: Mapping[str, float]

    def ms(self, candidate: Candidate, parameters: int) -> float:
        """Modelled p50 of the network with a head of `parameters`."""
        pools = sum(self._pool(candidate, tap) for tap in candidate.taps)
        return self.body[JOIN.join(candidate.taps)] + pools + self.base + self.per_million * parameters / 1e6

    def add_heads(self, heads: Sequence[tuple[Candidate, int]]) -> Costs:
        """Return the costs of a file that has other heads as well, each with its parameters.

        The body ends no earlier than the deepest layer that one of them reads.
        """
        if not heads:
            return self
        names = [JOIN.join(candidate.taps) for candidate, _ in heads]
        floor, least = max(self.body[name] for name in names), max(self.millions[name] for name in names)
        added = sum(self.ms(candidate, count) - self.body[JOIN.join(candidate.taps)] for candidate, count in heads)
        weights = sum(count for _, count in heads) / 1e6
        return replace(
            self,
            body={name: max(ms, floor) for name, ms in self.body.items()},
            base=self.base + added,
            millions={name: max(count, least) + weights for name, count in self.millions.items()},
        )

    def _pool(self, candidate: Candidate, tap: str) -> float:
        import numpy as np

        spec = candidate.spec
        size = {"attention": spec.queries, "bilinear": spec.rank}.get(spec.pool, 1)
        # Two measured sizes and a line between: the products of a pool grow in proportion to its queries or rank.
        return float(np.interp(size, self.sizes[spec.pool], self.pools[f"{spec.pool} {tap}"]))

    def plain(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, raw: Mapping[str, Any]) -> Costs:
        """Read what `plain` gave, also after a trip through JSON."""
        pairs = {name: {key: tuple(two) for key, two in raw[name].items()} for name in ("pools", "sizes")}
        return cls(**{**raw, **pairs})
