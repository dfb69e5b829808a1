"""How to adapt a network to new tasks: one strategy, one file."""

from effxfer.transfer.auto import Auto
from effxfer.transfer.base import Strategy
from effxfer.transfer.bi_tuning import BiTuning
from effxfer.transfer.bitfit import BitFit
from effxfer.transfer.bss import Bss
from effxfer.transfer.dann import Dann
from effxfer.transfer.delta import Delta
from effxfer.transfer.fixmatch import FixMatch
from effxfer.transfer.freeze import Freeze
from effxfer.transfer.full import Full
from effxfer.transfer.houlsby import Houlsby
from effxfer.transfer.ia3 import Ia3
from effxfer.transfer.l2_sp import L2Sp
from effxfer.transfer.lora import Lora
from effxfer.transfer.lp_ft import LpFt
from effxfer.transfer.parallel_adapter import ParallelAdapter
from effxfer.transfer.probe import Probe
from effxfer.transfer.prompts import Prompts
from effxfer.transfer.prototypes import PrototypeNet
from effxfer.transfer.ssf import Ssf
from effxfer.transfer.unfreeze import Unfreeze

STRATEGIES: dict[str, type[Strategy]] = {
    "auto": Auto,
    "bi_tuning": BiTuning,
    "bitfit": BitFit,
    "bss": Bss,
    "dann": Dann,
    "delta": Delta,
    "fixmatch": FixMatch,
    "freeze": Freeze,
    "full": Full,
    "houlsby": Houlsby,
    "ia3": Ia3,
    "l2_sp": L2Sp,
    "lora": Lora,
    "lp_ft": LpFt,
    "parallel_adapter": ParallelAdapter,
    "probe": Probe,
    "prompts": Prompts,
    "prototypes": PrototypeNet,
    "ssf": Ssf,
    "unfreeze": Unfreeze,
}
