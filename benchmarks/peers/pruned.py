"""Channels removed by torch-pruning, uniformly or where its global ranking says, then trained on."""

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from benchmarks.peers.case import Case
from effxfer.benchmark.protocol.latency import compare, onnx_runner

STEPS = 6  # of the bisection: a share of channels to 1.5 %, which latency cannot resolve further
LARGEST = 0.95


def prune_to_latency(dense: nn.Module, case: Case, *, everywhere: bool) -> nn.Module:
    """Remove as few channels as bring the exported file to the latency of the case.

    Args:
        dense: The fine-tuned network; it stays as it is.
        case: Gives the latency.
        everywhere: Compare channels of all layers (`global_pruning`); else each layer loses the same share.
    """
    base = case.export(dense, "unpruned")
    low, high = 0.0, LARGEST
    for _ in range(STEPS):
        share = (low + high) / 2
        candidate = pruned(dense, case, share, everywhere=everywhere)
        if ratio(case, candidate, base) > case.latency_ratio:
            low = share
        else:
            high = share
    return pruned(dense, case, high, everywhere=everywhere)


def pruned(dense: nn.Module, case: Case, share: float, *, everywhere: bool) -> nn.Module:
    """Remove this share of the channels by the norm of their groups, the library's usual importance."""
    import torch_pruning as tp

    net: Any = deepcopy(dense)
    head = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    pruner = tp.pruner.BasePruner(
        net, case.example(), importance=tp.importance.GroupMagnitudeImportance(p=2), pruning_ratio=share,
        global_pruning=everywhere, max_pruning_ratio=LARGEST, ignored_layers=[head], round_to=8,
    )  # fmt: skip
    pruner.step()
    for parameter in net.parameters():
        parameter.grad = None
    return net  # type: ignore[no-any-return]


def ratio(case: Case, net: nn.Module, base: Any) -> float:
    """Time a network's file in turns with the unpruned one's; return the ratio of the medians."""
    file = case.export(net, "candidate")
    feed = {"x": case.example().numpy()}
    with torch.inference_mode():
        timings = compare(
            {"base": onnx_runner(base, feed, 1), "candidate": onnx_runner(file, feed, 1)}, baseline="base", threads=1,
            min_seconds=1, max_seconds=4,
        )  # fmt: skip
    return float(next(timing.ratio for timing in timings if timing.name == "candidate"))
