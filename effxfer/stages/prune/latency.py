"""Prune a network to a latency: the clocks of this machine, handed to the mathematics in `effxfer.prune`."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from torch import Tensor, nn

from effxfer.benchmark.layer_table.table import measure_costs
from effxfer.errors import SettingsError
from effxfer.net.layers import trace
from effxfer.net.net import Net
from effxfer.prune.channels.importance import Importance
from effxfer.prune.channels.latency_loop import LatencyTarget
from effxfer.prune.channels.layer_prices import LayerPrices
from effxfer.prune.channels.sensitivity import Loss
from effxfer.prune.channels.to_latency import modelled_ms, prune_to_latency
from effxfer.prune.network import example_of
from effxfer.prune.result import PruneResult
from effxfer.prune.weights.scores.context import Losses
from effxfer.runtime.threads import usable_cores
from effxfer.stages.runner.onnx_timing import stopwatch, timed_by
from effxfer.stages.settings.prune_settings import Channels


def prune_to_measured_latency(
    network: nn.Module,
    *,
    loss: Loss,
    latency_ratio: float | None = None,
    latency_ms: float | None = None,
    example: Tensor | None = None,
    clock: Callable[[Any], float] | None = None,
    prices: LayerPrices | None = None,
    importance: Importance = "magnitude",
    exclude: Sequence[str] = (),
    max_ratio_per_layer: float = 0.9,
    examples: Losses | None = None,
    threads: int = 0,
    seed: int = 0,
) -> PruneResult:
    """Remove channels and residual blocks, in place, until a network is as fast as asked; nothing is trained.

    Args:
        network: Any module that takes one tensor and returns one, or a `Net`. Where anything fails it is unchanged.
        loss: Returns the mean loss of the network that it is passed on some training images, always the same ones.
        latency_ratio: Share of the latency before, in (0, 1); not with `latency_ms`.
        latency_ms: Milliseconds of one call, below those before; not with `latency_ratio`.
        example: An input `(N, ...)` of the network; a `Net` needs none.
        clock: Returns the milliseconds that a network takes on the device that counts; None exports it to ONNX and
            times the file in ONNX Runtime on this machine, in turns with the dense one.
        prices: What single layers cost, at any width; None measures that in ONNX Runtime on this machine, and keeps it
            for the next time. What the clock says corrects their sum.
        importance: As in `remove_channels`: which channels of a layer go first.
        exclude: Shell patterns of layers whose outputs stay, and whose blocks stay.
        max_ratio_per_layer: Largest share of its channels that a layer may lose, in (0, 1).
        examples: Losses of some batches, see `remove_channels`; used by `taylor` only.
        threads: Of ONNX Runtime; 0 is one per core.
        seed: Of the order in which networks are timed.

    Returns:
        What was asked, predicted and measured, tables of what was removed, and the record of the sizes.

    Raises:
        SettingsError: If the latency cannot be reached, or not exactly one target is given.
        GateError: If what was measured is more than 10 % slower than what was asked, after four corrections.
        ModelFileError: If the network cannot be traced, pruned, exported or rebuilt; names the layer.
    """
    if (latency_ratio is None) == (latency_ms is None):
        raise SettingsError("pass either latency_ratio or latency_ms", "latency_ratio=0.5 is half of the time")
    dense, one, threads = deepcopy(network), example_of(network, example), threads or usable_cores()
    prices = prices or measure_costs(trace(dense, one), threads=threads)
    whole = modelled_ms(dense, one, prices.ms)
    with stopwatch(dense, threads, seed, example) if clock is None else timed_by(clock, dense) as time:
        target = latency_target(latency_ratio, latency_ms, whole, lambda: time(dense).ms)
        return prune_to_latency(
            network, target=target, cost=prices.ms, step=prices.step, time=time, loss=loss, example=example,
            importance=importance, exclude=exclude, max_ratio_per_layer=max_ratio_per_layer, examples=examples,
        )  # fmt: skip


def prune_step_to_latency(
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
    whole = modelled_ms(dense, before, costs.ms)
    with stopwatch(dense, threads, settings.seed) as time:
        return prune_to_latency(
            net, target=step_target(settings, step, whole, lambda: time(dense).ms), cost=costs.ms, step=costs.step,
            time=time, loss=loss, importance=settings.importance, exclude=settings.exclude, examples=examples,
        )  # fmt: skip


def step_target(settings: Channels, step: int, whole: float, dense_ms: Callable[[], float]) -> LatencyTarget:
    """Say what a step must reach.

    Args:
        settings: The latency to reach in the last step.
        step: From 1 to `settings.steps`.
        whole: What the cost model says of the dense network, in milliseconds.
        dense_ms: Measures it.

    Raises:
        SettingsError: If the dense network is that fast already.
    """
    return latency_target(settings.latency_ratio, settings.latency_ms, whole, dense_ms, share=step / settings.steps)


def latency_target(
    ratio: float | None, ms: float | None, whole: float, dense_ms: Callable[[], float], share: float = 1.0
) -> LatencyTarget:
    """Say what must be reached after a share, in (0, 1], of the way to a ratio or to milliseconds; as `step_target`."""
    if ratio is not None:
        return LatencyTarget(value=ratio**share, unit="x", per_ms=1 / whole)
    wanted, measured = ms or 0.0, dense_ms()
    if wanted >= measured:
        raise SettingsError(
            f"latency_ms is {wanted:g}, and the network takes {measured:.3g} ms already", "ask for less"
        )
    return LatencyTarget(value=measured ** (1 - share) * wanted**share, unit="ms", per_ms=measured / whole)
