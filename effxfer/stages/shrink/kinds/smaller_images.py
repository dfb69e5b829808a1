"""Candidate: the same network on smaller images."""

from effxfer.net.net import Net
from effxfer.stages.prune.calibration import recalibrate_on_
from effxfer.stages.prune.control_networks import at_input_side, input_sides
from effxfer.stages.shrink.kinds.kind import Refusal, Sized, Workbench, too_slow
from effxfer.stages.shrink.kinds.size_search import fit_size

POWER = 2.0  # pixels are the side's square


def smaller_images(net: Net, bench: Workbench) -> Sized | Refusal:
    """Lower the side of the input images in steps of four pixels until the network meets the latency."""
    sides = input_sides(net)[:-1]
    if not sides:
        return Refusal(reason=f"the network takes no smaller images than {net.input.size} px")
    timings = {net.input.size: bench.present}

    def latency(side: float) -> float:
        timings[int(side)] = bench.time(at_input_side(net, int(side)))
        return timings[int(side)].ratio

    start = (net.input.size, bench.present.ratio)
    side = fit_size(sides, latency, bench.limit, start=start, power=POWER)
    if side is None:
        return too_slow(f"even at {sides[0]} px", timings[sides[0]])
    smaller = at_input_side(net, int(side))
    # BatchNorm statistics depend on the side of the images (Touvron et al. 2019, https://arxiv.org/abs/1906.06423). But
    # those of a pretrained body are of many more images than a task may have. EfficientNet-lite0 with solved heads, 840
    # images of 28 classes: 71.3 % at 96 px, with new statistics 58.9 % (n = 830); at 160 px 76.7 and 71.8 %.
    if bench.is_trained:
        recalibrate_on_(smaller, bench.batches(smaller))
    return Sized(net=smaller, timing=timings[int(side)], detail=f"{side:g} px")
