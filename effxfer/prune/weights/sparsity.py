"""Sparsity of a network by both denominators: prunable weights, and all weights."""

from torch import nn

from effxfer.prune.network import masks_of
from effxfer.prune.weights.mask import Mask
from effxfer.report import Measurement, Report, Table


def density(net: nn.Module, mask: Mask) -> Report:
    """Report the surviving weights of a network, in all and per layer.

    Args:
        net: The network that holds the ticket.
        mask: Mask of the pruned layers. Layers that only an earlier ticket pruned count among all weights only.
    """
    surviving, prunable = mask.counts
    everything, removed = totals(net)
    rows = [
        {"weight": n, "kept": int(k.sum()), "of": k.numel(), "kept, %": 100 * float(k.double().mean())}
        for n, k in mask.keep.items()
    ]
    return Report(
        rows=(
            _share("sparsity/prunable", prunable - surviving, prunable, "prunable weights"),
            _share("sparsity/all", removed, everything, "all weights"),
            Measurement(name="weights kept", value=everything - removed),
        ),
        tables=(Table(title="Weights kept per layer", rows=tuple(rows)),),
    )


def totals(net: nn.Module) -> tuple[int, int]:
    """Count all weights, and those that the network's own masks remove."""
    return sum(p.numel() for p in net.parameters()), sum(int((~keep).sum()) for keep in masks_of(net).values())


def _share(name: str, part: int, total: int, of: str) -> Measurement:
    return Measurement(name=name, value=100 * part / total, unit="%", n=total, of=of)
