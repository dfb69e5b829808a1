"""Cut a network to a latency: the clocks of this machine, handed to the mathematics in `effxfer.prune`."""

from collections.abc import Callable

from effxfer.benchmark.layer_table.table import measure_costs
from effxfer.errors import SettingsError
from effxfer.net.layers import trace
from effxfer.net.net import Net
from effxfer.prune.channels.latency_loop import Asked
from effxfer.prune.channels.sensitivity import Loss
from effxfer.prune.channels.to_latency import modelled, prune_to_latency
from effxfer.prune.network import example_of
from effxfer.prune.result import PruneResult
from effxfer.prune.weights.scores.context import Losses
from effxfer.runtime.threads import usable_cores
from effxfer.stages.runner.onnx_timing import stopwatch
from effxfer.stages.settings.prune_settings import Channels


def cut_to_latency(
    net: Net, dense: Net, settings: Channels, step: int, *, loss: Loss, examples: Losses
) -> PruneResult:  # fmt: skip
    """Remove what this step's latency asks for: steps are even factors on the way from the dense network's to the last.

    Args:
        net: Changed in place.
        dense: The network before the first step.
        settings: `latency_ratio` or `latency_ms`, and which channels go first.
        step: From 1 to `settings.steps`.
        loss: Mean loss on some training images.
        examples: Losses of batches, for the `taylor` importance.
    """
    threads = settings.threads or usable_cores()
    before, now = example_of(dense), example_of(net)
    costs = measure_costs([*trace(dense, before), *trace(net, now)], threads=threads)
    whole = modelled(dense, before, costs.ms)
    with stopwatch(dense, threads, settings.seed) as time:
        return prune_to_latency(
            net, asked=target(settings, step, whole, lambda: time(dense).ms), cost=costs.ms, step=costs.step, time=time,
            loss=loss, importance=settings.importance, exclude=settings.exclude, examples=examples,
        )  # fmt: skip


def target(settings: Channels, step: int, whole: float, dense_ms: Callable[[], float]) -> Asked:
    """Say what a step must reach.

    Args:
        settings: The latency to reach in the last step.
        step: From 1 to `settings.steps`.
        whole: What the cost model says of the dense network, in milliseconds.
        dense_ms: Measures it.

    Raises:
        SettingsError: If the dense network is that fast already.
    """
    share = step / settings.steps
    if settings.latency_ratio is not None:
        return Asked(value=settings.latency_ratio**share, unit="x", per_ms=1 / whole)
    wanted, measured = settings.latency_ms or 0.0, dense_ms()
    if wanted >= measured:
        raise SettingsError(
            f"latency_ms is {wanted:g}, and the network takes {measured:.3g} ms already", "ask for less"
        )
    return Asked(value=measured ** (1 - share) * wanted**share, unit="ms", per_ms=measured / whole)
