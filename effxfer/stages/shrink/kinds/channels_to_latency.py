"""Candidates: channels and blocks chosen by loss and latency (HALP, see `prune.channels.to_latency`)."""

from copy import deepcopy
from functools import partial

from effxfer.benchmark.layer_table.table import measure_costs
from effxfer.net.layers import trace
from effxfer.net.net import Net
from effxfer.prune.channels.importance import Importance
from effxfer.prune.channels.latency_loop import LatencyTarget, PairedTiming
from effxfer.prune.channels.to_latency import modelled_ms, prune_to_latency
from effxfer.prune.network import example_of
from effxfer.runtime.threads import usable_cores
from effxfer.stages.shrink.kinds.kind import Refusal, Sized, Workbench


def channels_to_latency(net: Net, bench: Workbench, *, importance: Importance) -> Sized | Refusal:
    """Remove the channels and residual blocks that cost the least loss for the latency they save."""
    smaller, example, settings = deepcopy(net), example_of(net), bench.settings
    costs = measure_costs(trace(net, example), threads=settings.threads or usable_cores())
    # Layers are priced in float32; the first measurement corrects the model for the precision that ships.
    target = LatencyTarget(
        value=bench.limit, unit="x", per_ms=bench.present.ratio / modelled_ms(net, example, costs.ms)
    )
    timings = list[PairedTiming]()

    def time(pruned: Net) -> PairedTiming:
        timings.append(bench.time(pruned))
        return timings[-1]

    result = prune_to_latency(
        smaller, target=target, cost=costs.ms, step=costs.step, time=time, loss=bench.loss, example=example,
        importance=importance, exclude=settings.exclude, examples=bench.examples(net),
    )  # fmt: skip
    bench.recover_(smaller, net, result.kept_outputs)
    measured = result.report["latency/measured"].value
    (timing, *_) = [timing for timing in timings if timing.ratio == measured]
    blocks = sum(len(edit["names"]) for edit in result.record if edit["kind"] == "remove_blocks")
    detail = f"{result.report['macs/ratio'].value:.0%} of the multiply-adds"
    detail = f"{detail}, {blocks} blocks removed" if blocks else detail
    return Sized(net=smaller, timing=timing, detail=detail, kept_outputs=result.kept_outputs)


by_magnitude = partial(channels_to_latency, importance="magnitude")
by_taylor = partial(channels_to_latency, importance="taylor")
