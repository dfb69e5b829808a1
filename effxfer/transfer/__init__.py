"""How to adapt a network to new tasks: one strategy, one file."""

from effxfer.transfer.auto import Auto
from effxfer.transfer.base import Strategy
from effxfer.transfer.bss import Bss
from effxfer.transfer.delta import Delta
from effxfer.transfer.fixmatch import FixMatch
from effxfer.transfer.freeze import Freeze
from effxfer.transfer.full import Full
from effxfer.transfer.l2_sp import L2Sp
from effxfer.transfer.lp_ft import LpFt
from effxfer.transfer.probe import Probe
from effxfer.transfer.unfreeze import Unfreeze

STRATEGIES: dict[str, type[Strategy]] = {
    "auto": Auto,
    "bss": Bss,
    "delta": Delta,
    "fixmatch": FixMatch,
    "freeze": Freeze,
    "full": Full,
    "l2_sp": L2Sp,
    "lp_ft": LpFt,
    "probe": Probe,
    "unfreeze": Unfreeze,
}
