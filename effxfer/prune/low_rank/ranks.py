"""Choose the rank of each layer: the greedy search of Zhang et al., 2015, with measured costs.

https://arxiv.org/abs/1505.06798, section 2.4: the product of the layers' shares of output energy is to be largest at a
cost. The best move saves most cost for what it loses of the product's logarithm. A layer that is cheaper whole stays
whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, log

# Energy that is left counts as at least this, so that its logarithm is finite.
TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class RankOption:
    """A rank of a layer.

    Attributes:
        rank: The rank; None for the whole layer.
        cost: Its cost, such as milliseconds.
        loss: Minus the logarithm of the share of output energy that is left; 0 for the whole layer.
    """

    rank: int | None
    cost: float
    loss: float


def option(rank: int, cost: float, lost_share: float) -> RankOption:
    """Return an option of a rank that loses a share of the output energy, in [0, 1]."""
    return RankOption(rank=rank, cost=cost, loss=-log(max(1 - lost_share, TINY)))


def choose_ranks(options: Mapping[str, Sequence[RankOption]], cost: float) -> dict[str, int]:
    """Choose an option for each layer within a cost of all; those that stay whole are left out.

    Args:
        options: By layer, the whole layer among them.
        cost: Largest sum of the costs; if it is out of reach, the cheapest options are chosen.
    """
    chosen = {name: _unsplit_option(each) for name, each in options.items()}
    moves = sorted(_all_moves(options), key=lambda move: move[0])
    total = sum(each.cost for each in chosen.values())
    for _, name, after in moves:
        if total <= cost:
            break
        total += after.cost - chosen[name].cost
        chosen[name] = after
    return {name: each.rank for name, each in chosen.items() if each.rank is not None}


def _all_moves(options: Mapping[str, Sequence[RankOption]]) -> Iterator[tuple[float, str, RankOption]]:
    for name, each in options.items():
        for price, after in _moves(each):
            yield price, name, after


def _moves(options: Sequence[RankOption]) -> Iterator[tuple[float, RankOption]]:
    """Yield a layer's moves to cheaper options: each the one that loses least per cost saved, at a rising price."""
    present: RankOption | None = _unsplit_option(options)
    while present is not None:
        price, following = inf, None
        for each in options:
            if each.cost < present.cost and (each.loss - present.loss) / (present.cost - each.cost) < price:
                price, following = (each.loss - present.loss) / (present.cost - each.cost), each
        if following is not None:
            yield price, following
        present = following


def _unsplit_option(options: Sequence[RankOption]) -> RankOption:
    return next(each for each in options if each.rank is None)
