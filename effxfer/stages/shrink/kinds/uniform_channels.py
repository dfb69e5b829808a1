"""Candidate: the same share of channels removed from every layer."""

from copy import deepcopy

from effxfer.net.net import Net
from effxfer.prune.channels.remove import remove_channels
from effxfer.prune.result import PruneResult
from effxfer.stages.prune.control_networks import DENSITIES
from effxfer.stages.shrink.kinds.kind import Refusal, Sized, Workbench, too_slow
from effxfer.stages.shrink.kinds.size_search import fit_size

POWER = 1.5  # multiply-adds are the square of the widths; what is not multiplied, less


def uniform_channels(net: Net, bench: Workbench) -> Sized | Refusal:
    """Remove the channels of least magnitude of each layer, all layers alike, until the network meets the latency."""
    timings = {1.0: bench.present}

    def latency(density: float) -> float:
        timings[density] = bench.time(narrow(net, density, bench)[0])
        return timings[density].ratio

    density = fit_size(DENSITIES, latency, bench.limit, start=(1.0, bench.present.ratio), power=POWER)
    if density is None:
        return too_slow(f"even with {DENSITIES[0]:.0%} of the channels", timings[DENSITIES[0]])
    smaller, result = narrow(net, density, bench)
    bench.recover_(smaller, net, result.kept_outputs)
    return Sized(
        net=smaller, timing=timings[density], detail=f"{density:.0%} of the channels", kept_outputs=result.kept_outputs
    )


def narrow(net: Net, density: float, bench: Workbench) -> tuple[Net, PruneResult]:
    """Copy a network with a share of the channels of every layer."""
    smaller, settings = deepcopy(net), bench.settings
    result = remove_channels(
        smaller, ratio=round(1 - density, 2), scope="layer", round_to=settings.round_to, exclude=settings.exclude
    )
    return smaller, result
