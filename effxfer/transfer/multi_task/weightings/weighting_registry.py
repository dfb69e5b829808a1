"""The weightings by name."""

from effxfer.transfer.multi_task.weightings.cagrad import CaGrad
from effxfer.transfer.multi_task.weightings.dwa import Dwa
from effxfer.transfer.multi_task.weightings.equal import Equal
from effxfer.transfer.multi_task.weightings.gradnorm import GradNorm
from effxfer.transfer.multi_task.weightings.mgda import Mgda
from effxfer.transfer.multi_task.weightings.pcgrad import PcGrad
from effxfer.transfer.multi_task.weightings.rlw import Rlw
from effxfer.transfer.multi_task.weightings.uncertainty import Uncertainty
from effxfer.transfer.multi_task.weightings.weighting import Weighting

WEIGHTINGS: dict[str, type[Weighting]] = {
    "cagrad": CaGrad,
    "dwa": Dwa,
    "equal": Equal,
    "gradnorm": GradNorm,
    "mgda": Mgda,
    "pcgrad": PcGrad,
    "rlw": Rlw,
    "uncertainty": Uncertainty,
}
