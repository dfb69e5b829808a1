"""Candidate: a network that is faster than it has to be, on larger images, up to the side of its pretraining."""

from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.stages.prune.control_networks import SIDE_STEP, at_input_side
from effxfer.stages.shrink.kinds.kind import Refusal, Sized, Workbench
from effxfer.stages.shrink.kinds.size_search import fit_size
from effxfer.stages.shrink.kinds.smaller_images import POWER

# Each side up to that of pretraining is tried for whether the network takes it.
STEP = 2 * SIDE_STEP


def larger_images(net: Net, bench: Workbench) -> Sized | Refusal:
    """Raise the side of the input images in steps of eight pixels while the network meets the latency."""
    timings = {net.input.size: bench.present}
    sides = [side for side in range(net.input.size, bench.full_side + 1, STEP) if takes(net, side)]

    def latency(side: float) -> float:
        if int(side) not in timings:
            timings[int(side)] = bench.time(at_input_side(net, int(side)))
        return timings[int(side)].ratio

    side = fit_size(sides, latency, bench.limit, start=(net.input.size, bench.present.ratio), power=POWER)
    if side is None or side == net.input.size:
        return Refusal(reason=f"the network takes no larger images up to {bench.full_side} px in time")
    return Sized(net=at_input_side(net, int(side)), timing=timings[int(side)], detail=f"{side:g} px")


def takes(net: Net, side: int) -> bool:
    """Whether a network takes images of a side."""
    try:
        at_input_side(net, side)
    except SettingsError:
        return False
    return True
