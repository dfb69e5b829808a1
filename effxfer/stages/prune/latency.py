"""Prune a network to a latency that is measured on this machine."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.benchmark.layer_table.table import measure_costs
from effxfer.deploy.export.text_samples import typical_lengths
from effxfer.errors import SettingsError
from effxfer.net.layers import trace
from effxfer.net.net import Net
from effxfer.prune.channels.importance import MAX_RATIO_PER_LAYER, Importance
from effxfer.prune.channels.latency_loop import LatencyTarget
from effxfer.prune.channels.layer_prices import LayerPrices
from effxfer.prune.channels.sensitivity import Loss
from effxfer.prune.channels.to_latency import modelled_ms, prune_to_latency
from effxfer.prune.network import SEED, example_of
from effxfer.prune.result import PruneResult
from effxfer.prune.weights.scores.context import Losses
from effxfer.runtime.rows import Rows
from effxfer.runtime.text.tokens import Tokens
from effxfer.runtime.threads import usable_cores
from effxfer.stages.runner.onnx_timing import stopwatch, time_with
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
    max_ratio_per_layer: float = MAX_RATIO_PER_LAYER,
    examples: Losses | None = None,
    threads: int = 0,
    seed: int = 0,
) -> PruneResult:
    """Remove channels and residual blocks, in place, until a network reaches a latency; without training.

    Args:
        network: Any module that takes one tensor and returns one, or a `Net`. It is unchanged if an error is raised.
        loss: Returns the mean loss of a network on a fixed set of training images.
        latency_ratio: Target latency divided by the current latency, in (0, 1); excludes `latency_ms`.
        latency_ms: Target latency of one call in milliseconds, below the current one; excludes `latency_ratio`.
        example: An input `(N, ...)` of the network; a `Net` needs none.
        clock: Returns the latency of a network on the target device in milliseconds. None exports the network to ONNX
            and times it in ONNX Runtime on this machine, interleaved with the dense network.
        prices: Cost of single layers by width; None measures them in ONNX Runtime on this machine and caches them.
            Their sum is corrected by the measured latency.
        importance: Importance of channels, see `remove_channels`.
        exclude: Shell patterns of layers whose outputs and blocks are not pruned.
        max_ratio_per_layer: Largest fraction of its channels that a layer may lose, in (0, 1).
        examples: Losses of some batches, see `remove_channels`; used by `taylor` only.
        threads: Threads of ONNX Runtime; 0 is one per core.
        seed: Random seed of the order in which networks are timed.

    Returns:
        Target, predicted and measured latency, tables of the removed channels and blocks, and the remaining sizes.

    Raises:
        SettingsError: If the latency cannot be reached, or the number of targets is not one.
        GateError: If the measured latency is more than 10 % above the target after four corrections.
        ModelFileError: If the network cannot be traced, pruned, exported or rebuilt; names the layer.
    """
    if (latency_ratio is None) == (latency_ms is None):
        raise SettingsError("pass either latency_ratio or latency_ms", "latency_ratio=0.5 is half of the time")
    dense, image, threads = deepcopy(network), example_of(network, example), threads or usable_cores()
    prices = prices or measure_costs(trace(dense, image), threads=threads)
    dense_model_ms = modelled_ms(dense, image, prices.ms)
    with stopwatch(dense, threads, seed, example) if clock is None else time_with(clock, dense) as time:
        target = latency_target(latency_ratio, latency_ms, dense_model_ms, lambda: time(dense).ms)
        return prune_to_latency(
            network, target=target, cost=prices.ms, step=prices.step, time=time, loss=loss, example=example,
            importance=importance, exclude=exclude, max_ratio_per_layer=max_ratio_per_layer, examples=examples,
        )  # fmt: skip


def prune_step_to_latency(
    net: Net, dense: Net, settings: Channels, step: int, *, loss: Loss, examples: Losses, rows: Rows | None = None
) -> PruneResult:  # fmt: skip
    """Prune to the target latency of one step; the targets form a geometric series from the dense latency to the last.

    Args:
        net: Network, changed in place.
        dense: The network before the first step.
        settings: Settings with `latency_ratio` or `latency_ms`, and the importance of channels.
        step: From 1 to `settings.steps`.
        loss: Returns the mean loss of a network on a fixed set of training images.
        examples: Losses of batches, for the `taylor` importance.
        rows: Of the validation split: networks of texts are timed at their median length.
    """
    threads = settings.threads or usable_cores()
    before, now = typical_example(dense, rows), typical_example(net, rows)
    # Of both: the target is a share of the dense network's cost, and later steps start from a smaller one.
    costs = measure_costs([*trace(dense, before), *trace(net, now)], threads=threads)
    dense_model_ms = modelled_ms(dense, before, costs.ms)
    with stopwatch(dense, threads, settings.seed, rows=rows) as time:
        return prune_to_latency(
            net, target=step_target(settings, step, dense_model_ms, lambda: time(dense).ms), cost=costs.ms,
            step=costs.step, time=time, loss=loss, example=now, importance=settings.importance,
            exclude=settings.exclude, examples=examples,
        )  # fmt: skip


def typical_example(net: Net, rows: Rows | None) -> Tensor:
    """Return the input `(1, ...)` whose layers are priced: of a text as long as the median of `rows`.

    Attention grows with the square of a text's length, the other layers with the length itself.
    """
    lengths = typical_lengths(rows)
    if not lengths or not isinstance(net.input, Tokens):
        return example_of(net)
    return example_of(net, torch.from_numpy(net.input.example(1, seed=SEED, length=lengths[0])))


def step_target(settings: Channels, step: int, dense_model_ms: float, dense_ms: Callable[[], float]) -> LatencyTarget:
    """Return the target latency of a step.

    Args:
        settings: Settings with the target of the last step.
        step: From 1 to `settings.steps`.
        dense_model_ms: Latency of the dense network by the cost model, in milliseconds.
        dense_ms: Measures the latency of the dense network in milliseconds.

    Raises:
        SettingsError: If the dense network is already as fast as the target.
    """
    ratio, ms = settings.latency_ratio, settings.latency_ms
    return latency_target(ratio, ms, dense_model_ms, dense_ms, share=step / settings.steps)


def latency_target(
    ratio: float | None, ms: float | None, dense_model_ms: float, dense_ms: Callable[[], float], share: float = 1.0
) -> LatencyTarget:
    """Return the target latency after a share, in (0, 1], of the way to a ratio or to milliseconds."""
    if ratio is not None:
        # Geometric: each step removes the same fraction of what is left.
        return LatencyTarget(value=ratio**share, unit="x", per_ms=1 / dense_model_ms)
    target_ms, measured = ms or 0.0, dense_ms()
    if target_ms >= measured:
        raise SettingsError(
            f"latency_ms is {target_ms:g}, but the network takes only {measured:.3g} ms", "set a smaller latency_ms"
        )
    return LatencyTarget(value=measured ** (1 - share) * target_ms**share, unit="ms", per_ms=measured / dense_model_ms)
