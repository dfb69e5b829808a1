"""Candidate: whole residual blocks removed, the rest unchanged (see `prune.channels.residual_blocks`)."""

from copy import deepcopy

from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.prune.channels.residual_blocks import residual_blocks
from effxfer.prune.channels.sensitivity import block_losses
from effxfer.prune.graph.transaction import copy_for_tracing, frozen_outputs
from effxfer.prune.network import example_of
from effxfer.stages.shrink.kinds.kind import Refusal, Sized, Workbench, too_slow


def whole_blocks(net: Net, bench: Workbench) -> Sized | Refusal:
    """Remove the residual block whose loss rises the least, measure again, and repeat until the latency is met."""
    removed, timing, smaller = list[str](), bench.present, net
    while timing.ratio > bench.limit:
        trial = copy_for_tracing(smaller)
        names = residual_blocks(trial, example_of(trial), frozen_outputs(trial, bench.settings.exclude))
        if not names:
            none = "no residual block keeps its input's shape"
            return too_slow(f"without {len(removed)} blocks", timing) if removed else Refusal(reason=none)
        # Again after each: the next block's worth depends on those that are left.
        rises = block_losses(smaller, names, bench.loss)
        removed.append(min(names, key=rises.__getitem__))
        smaller = without_block(smaller, removed[-1])
        timing = bench.time(smaller)
    bench.recover_(smaller, net)
    return Sized(
        net=smaller, timing=timing, detail=f"without {', '.join(name.removeprefix('body.') for name in removed)}"
    )


def without_block(net: Net, name: str) -> Net:
    """Copy a network without a residual block."""
    smaller = deepcopy(net)
    apply_edit(smaller, "remove_blocks", names=[name])
    return smaller
