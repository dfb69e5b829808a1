"""Strategies that adapt a network to new tasks, one file each."""

from effxfer.transfer.adapters.bitfit import BitFit
from effxfer.transfer.adapters.houlsby import Houlsby
from effxfer.transfer.adapters.ia3 import Ia3
from effxfer.transfer.adapters.lora import Lora
from effxfer.transfer.adapters.parallel_adapter import ParallelAdapter
from effxfer.transfer.adapters.prompts import Prompts
from effxfer.transfer.adapters.ssf import Ssf
from effxfer.transfer.base import Strategy
from effxfer.transfer.continual.der import Der
from effxfer.transfer.continual.ewc import Ewc
from effxfer.transfer.continual.gdumb import GDumb
from effxfer.transfer.continual.icarl import ICarl
from effxfer.transfer.continual.lwf import LwF
from effxfer.transfer.continual.nearest_mean import NearestMean
from effxfer.transfer.continual.replay import Replay
from effxfer.transfer.continual.si import Si
from effxfer.transfer.domain_adaptation.adabn import AdaBn
from effxfer.transfer.domain_adaptation.cdan import Cdan
from effxfer.transfer.domain_adaptation.coral import Coral
from effxfer.transfer.domain_adaptation.dan import Dan
from effxfer.transfer.domain_adaptation.dann import Dann
from effxfer.transfer.domain_adaptation.importance import Importance
from effxfer.transfer.domain_adaptation.mcc import Mcc
from effxfer.transfer.domain_adaptation.self_training import SelfTraining
from effxfer.transfer.domain_adaptation.tent import Tent
from effxfer.transfer.few_shot.anil import Anil
from effxfer.transfer.few_shot.maml import Maml
from effxfer.transfer.few_shot.matching import Matching
from effxfer.transfer.few_shot.prototypes import PrototypeNet
from effxfer.transfer.few_shot.relation import RelationNet
from effxfer.transfer.few_shot.reptile import Reptile
from effxfer.transfer.few_shot.simpleshot import SimpleShot
from effxfer.transfer.fine_tuning.auto import Auto
from effxfer.transfer.fine_tuning.freeze import Freeze
from effxfer.transfer.fine_tuning.full import Full
from effxfer.transfer.fine_tuning.lp_ft import LpFt
from effxfer.transfer.fine_tuning.probe import Probe
from effxfer.transfer.fine_tuning.unfreeze import Unfreeze
from effxfer.transfer.multi_task.multi_task import MultiTask
from effxfer.transfer.regularized.bi_tuning import BiTuning
from effxfer.transfer.regularized.bss import Bss
from effxfer.transfer.regularized.delta import Delta
from effxfer.transfer.regularized.l2_sp import L2Sp
from effxfer.transfer.self_supervised.barlow_twins import BarlowTwins
from effxfer.transfer.self_supervised.byol import Byol
from effxfer.transfer.self_supervised.mae import MaskedAutoencoder
from effxfer.transfer.self_supervised.mlm import MaskedLm
from effxfer.transfer.self_supervised.moco import MoCo
from effxfer.transfer.self_supervised.rotation import Rotation
from effxfer.transfer.self_supervised.simclr import SimClr
from effxfer.transfer.self_supervised.simsiam import SimSiam
from effxfer.transfer.self_supervised.vicreg import VicReg
from effxfer.transfer.semi_supervised.fixmatch import FixMatch
from effxfer.transfer.text.prompt import Prompt
from effxfer.transfer.text.setfit import SetFit
from effxfer.transfer.zero_shot.ale import Ale
from effxfer.transfer.zero_shot.dap import Dap
from effxfer.transfer.zero_shot.devise import Devise
from effxfer.transfer.zero_shot.eszsl import Eszsl
from effxfer.transfer.zero_shot.iap import Iap
from effxfer.transfer.zero_shot.sae import Sae

STRATEGIES: dict[str, type[Strategy]] = {
    "adabn": AdaBn,
    "ale": Ale,
    "anil": Anil,
    "auto": Auto,
    "bi_tuning": BiTuning,
    "bitfit": BitFit,
    "bss": Bss,
    "cdan": Cdan,
    "coral": Coral,
    "dan": Dan,
    "dann": Dann,
    "dap": Dap,
    "delta": Delta,
    "der": Der,
    "devise": Devise,
    "eszsl": Eszsl,
    "ewc": Ewc,
    "fixmatch": FixMatch,
    "freeze": Freeze,
    "full": Full,
    "gdumb": GDumb,
    "houlsby": Houlsby,
    "ia3": Ia3,
    "iap": Iap,
    "icarl": ICarl,
    "importance": Importance,
    "l2_sp": L2Sp,
    "lora": Lora,
    "lp_ft": LpFt,
    "lwf": LwF,
    "maml": Maml,
    "matching": Matching,
    "mcc": Mcc,
    "multi_task": MultiTask,
    "nearest_mean": NearestMean,
    "parallel_adapter": ParallelAdapter,
    "probe": Probe,
    "prompt": Prompt,
    "prompts": Prompts,
    "prototypes": PrototypeNet,
    "relation": RelationNet,
    "replay": Replay,
    "reptile": Reptile,
    "sae": Sae,
    "self_training": SelfTraining,
    "setfit": SetFit,
    "si": Si,
    "simpleshot": SimpleShot,
    "ssf": Ssf,
    "tent": Tent,
    "unfreeze": Unfreeze,
}

# Of the stage `pretrain`: they learn from examples without labels.
SELF_SUPERVISED: dict[str, type[Strategy]] = {
    "barlow_twins": BarlowTwins,
    "byol": Byol,
    "mae": MaskedAutoencoder,
    "mlm": MaskedLm,
    "moco": MoCo,
    "rotation": Rotation,
    "simclr": SimClr,
    "simsiam": SimSiam,
    "vicreg": VicReg,
}
