"""Candidate: the network ends after an earlier stage, with a new head on what that stage gives."""

from collections.abc import Sequence
from copy import deepcopy

import torch

from effxfer.net.compression.early_exit import check_exit, find_modules_after
from effxfer.net.edits import apply_edit
from effxfer.net.net import Net
from effxfer.net.taps import example_input, stage_ends, tap_widths
from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.stages.shrink.kinds.kind import Refusal, Sized, Workbench, too_slow
from effxfer.stages.train.head import head_columns


def earlier_exit(net: Net, bench: Workbench) -> Sized | Refusal:
    """End the network at the deepest stage that meets the latency, and give it an untrained linear head."""
    timing: PairedTiming | None = None
    for tap in reversed(stage_ends(net.body, example_input(net))):
        behind = find_modules_after(net, tap)
        if not check_exit(net, tap, behind):
            continue
        smaller = end_at(net, tap, behind, bench)
        timing = bench.time(smaller)
        if timing.ratio <= bench.limit:
            return Sized(net=smaller, timing=timing, detail=f"ends at {tap}")
    if timing is None:
        return Refusal(reason="the network cannot end at an earlier stage")
    return too_slow("even at the first stage", timing)


def end_at(net: Net, tap: str, behind: Sequence[str], bench: Workbench) -> Net:
    """Copy a network that ends at a tap, with a new linear head; `behind` are the modules behind it."""
    smaller = deepcopy(net).cpu()
    torch.manual_seed(bench.settings.seed)
    columns = head_columns(bench.task_for(net))
    apply_edit(
        smaller, "set_head", spec={"kind": "linear"}, features=tap_widths(smaller, (tap,))[tap], **columns, taps=[tap]
    )
    apply_edit(smaller, "cut", gone=list(behind))
    return smaller.to(bench.device.torch)
