"""How to adapt a network to new tasks: one strategy, one file."""

from effxfer.transfer.base import Strategy
from effxfer.transfer.full import Full
from effxfer.transfer.probe import Probe

STRATEGIES: dict[str, type[Strategy]] = {
    "full": Full,
    "probe": Probe,
}
