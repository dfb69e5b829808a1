"""Controls of channel pruning: other networks of the same latency, trained for as long.

A network of fewer channels says something only where it beats the unpruned one on smaller images, the same share of
every layer removed, its own shape trained from weights drawn anew (Liu et al., 2019,
https://arxiv.org/abs/1810.05270), and a network that was made smaller from the start (Blalock et al., 2020,
https://arxiv.org/abs/2003.03033).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, TypeVar

from effxfer.pareto import AS_FAST
from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.prune.weights.controls import cells
from effxfer.report import Curve, Measurement, Report, Table

PLOT = "Accuracy against latency of the pruned network and its controls"
SHARE = "p50, share of the dense network's"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ControlResult:
    """One measured network.

    Attributes:
        name: Name in tables.
        epochs: Epochs of training in this stage; a range if repeats ended at different epochs.
        scores: Accuracy in percent by split, one value per training.
        timing: Timing of its exported float32 file, in turns with the dense network's.
        macs: Multiply-adds for one image.
        advice: How to obtain this network.
    """

    name: str
    epochs: int | str
    scores: Mapping[str, Sequence[float]]
    timing: PairedTiming
    macs: int
    advice: str = ""


def largest_within(sizes: Sequence[T], cost: Callable[[T], float], limit: float) -> T | None:
    """Find, by bisection, the largest size that costs at most `limit`.

    Args:
        sizes: Sizes in ascending order.
        cost: Of a size; taken to rise with it. Where it wavers, as what is measured does, what is found still cost
            no more than `limit`, but need not be the largest.
        limit: Limit in the unit of `cost`.

    Returns:
        The size; None if there is none.
    """
    low, high, best = 0, len(sizes), None
    while low < high:
        middle = (low + high) // 2
        if cost(sizes[middle]) <= limit:
            low, best = middle + 1, sizes[middle]
        else:
            high = middle
    return best


def control_is_better(control: ControlResult, pruned: ControlResult) -> bool:
    """Whether a control is at most 3 % slower than the pruned network, and its median score is higher."""
    as_fast = control.timing.ratio <= AS_FAST * pruned.timing.ratio
    return as_fast and _score(control) > _score(pruned)


def report_channel_controls(
    dense: ControlResult, pruned: ControlResult, controls: Sequence[ControlResult], title: str = "accuracy"
) -> Report:
    """Compare a pruned network with its controls; a note names each control that wins.

    Args:
        dense: The network before pruning.
        pruned: The network after it.
        controls: The networks to compare with; their first score decides which of them win.
        title: Title of the metric.
    """
    everyone, repeated = (dense, pruned, *controls), any(len(_scores(c)) > 1 for c in controls)
    rows = [
        row for result in (pruned, *controls) for row in _measurements(result, title if result is not pruned else "")
    ]
    return Report(
        rows=tuple(rows),
        tables=(Table(title="Controls", rows=tuple(_table_row(result, repeated, title) for result in everyone)),),
        notes=tuple(_verdict(result, pruned) for result in controls if control_is_better(result, pruned)),
        curves=tuple(
            Curve(title=PLOT, name=result.name, x=SHARE, y=f"validation {title}, %", line=False,
                  points=tuple((result.timing.ratio, score) for score in _scores(result)))
            for result in everyone
        ),
    )  # fmt: skip


def _scores(result: ControlResult) -> Sequence[float]:
    return next(iter(result.scores.values()))


def _score(result: ControlResult) -> float:
    return median(_scores(result))


def _measurements(result: ControlResult, title: str) -> list[Measurement]:
    timing = result.timing
    rows = [Measurement.spread(f"{result.name} {title}/{s}", values, unit="%") for s, values in result.scores.items()]
    return (rows if title else []) + [
        Measurement(name=f"{result.name} p50/ratio", value=timing.ratio, unit="x", low=timing.low, high=timing.high,
                    n=timing.n, of="the dense network's p50"),
        Measurement(name=f"{result.name} macs", value=result.macs / 1e6, unit="M"),
    ]  # fmt: skip


def _table_row(result: ControlResult, repeated: bool, title: str) -> dict[str, Any]:
    return {
        "network": result.name,
        "epochs": result.epochs,
        **cells(result.scores, repeated, title),
        "p50 ms": result.timing.ms,
        "p50 ratio": result.timing.ratio,
        "ratio 95 %": f"{result.timing.low:.3f} to {result.timing.high:.3f}",
        "multiply-adds M": result.macs / 1e6,
    }


def _verdict(control: ControlResult, pruned: ControlResult) -> str:
    scores = _scores(control)
    spread = f", {min(scores):.2f} to {max(scores):.2f}" if len(scores) > 1 else ""
    theirs = f"{_score(control):.2f} % (n={len(scores)}{spread}) at {control.timing.ratio:.3f} of the dense p50"
    ours = f"{_score(pruned):.2f} % at {pruned.timing.ratio:.3f}"
    advice = f": {control.advice}" if control.advice else ""
    return f"the control {control.name} wins: {theirs}, the pruned network {ours}; prefer it{advice}"
