"""Controls of a ticket: the same training with other masks and other weights.

A ticket says something only where it beats a random mask with as many weights per layer, its own mask on weights
drawn anew (Frankle & Carbin, 2019, https://arxiv.org/abs/1803.03635), and pruning in one shot; and it costs nothing
only where it reaches the dense network trained as long (Liu et al., 2019, https://arxiv.org/abs/1810.05270).
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Literal

from torch import Tensor

from effxfer.data.batches.batches import seed_of
from effxfer.net.net import Net
from effxfer.net.reinitialize import initial_weights
from effxfer.prune.weights.lottery import PLOT, PRUNABLE, Remember, recompute
from effxfer.prune.weights.mask import Mask
from effxfer.prune.weights.scores.context import ScoreContext
from effxfer.prune.weights.scores.random import random
from effxfer.prune.weights.select import keep_strongest
from effxfer.report import Curve, Measurement, Report, Table

Kind = Literal["dense", "one-shot", "random", "re-initialised"]
Train = Callable[[Net, Kind, int], Mapping[str, float]]
WORDS: Mapping[Kind, str] = {
    "random": "random mask",
    "re-initialised": "weights drawn anew",
    "one-shot": "one-shot mask",
    "dense": "dense, trained as long",
}


@dataclass(frozen=True, kw_only=True)
class Control:
    """One training of a control.

    Attributes:
        kind: Kind of the control.
        number: Number of the repeat, from 0.
        scores: Scores that `train` returned, e.g. accuracy in percent by split.
    """

    kind: Kind
    number: int
    scores: Mapping[str, float]


def run_controls(
    net: Net,
    train: Train,
    *,
    kinds: Sequence[Kind],
    repeats: int,
    seed: int,
    ticket: Mask,
    first: Mask,
    one_shot: Mask,
    start: Mapping[str, Tensor],
    remember: Remember = recompute,
) -> tuple[Control, ...]:
    """Train every control `repeats` times, each as often and as long as the ticket was.

    Args:
        net: The architecture; unchanged.
        train: `(net, kind, repeat) -> scores` trains the network in place and keeps removed weights at zero.
        kinds: Kinds of controls.
        repeats: Number of repeats, at least 1; each draws new masks and weights.
        seed: Random seed of masks and weights.
        ticket: The ticket's mask: `re-initialised` has it, `random` has as many weights of each layer.
        first: Mask before pruning: `dense` has it, and other controls keep no weight outside.
        one_shot: The mask of the ticket's sparsity that pruning in one step gave.
        start: The state (weights and buffers) that the ticket's training started from.
        remember: See `find_ticket`.

    Raises:
        EffxferError: If `train` lets removed weights grow back.
    """

    def initial_state(kind: Kind, number: int) -> tuple[Mapping[str, Tensor], Mask]:
        drawn = seed_of(seed, "control", kind, number) % 2**32
        masks = {"dense": first, "one-shot": one_shot, "re-initialised": ticket}
        mask = random_mask(net, ticket, first, drawn) if kind == "random" else masks[kind]
        return initial_weights(net, drawn) if kind == "re-initialised" else start, mask

    def train_control(kind: Kind, number: int) -> dict[str, Any]:
        trial, (weights, mask) = deepcopy(net), initial_state(kind, number)
        trial.load_state_dict(weights, strict=False)
        mask.replace_(trial)
        scores = train(trial, kind, number)
        # A control that cheats would make every ticket look bad.
        mask.check_zero(trial)
        return {"scores": dict(scores)}

    # All kinds once before any twice: a run that is cut off has something of each.
    runs = [(kind, number) for number in range(repeats) for kind in kinds]
    results = {run: remember("control-{}-{}".format(*run), partial(train_control, *run)) for run in runs}
    return tuple(Control(kind=k, number=n, scores=results[k, n]["scores"]) for k, n in sorted(runs, key=_order))


def random_mask(net: Net, mask: Mask, within: Mask, seed: int) -> Mask:
    """Draw a mask that keeps as many weights of each layer as `mask`, all of them kept by `within`."""
    scores = random(net, list(mask.keep), ScoreContext(seed=seed))
    # Below every random score: what was gone before can never be drawn.
    inside = {name: score.masked_fill(~within.keep[name].to(score.device), -1.0) for name, score in scores.items()}
    return Mask({name: keep_strongest(score, int(mask.keep[name].sum())) for name, score in inside.items()})


def report_controls(
    scores: Mapping[str, float],
    controls: Sequence[Control],
    *,
    ticket: Mask,
    first: Mask,
    trainings: str,
    title: str = "accuracy",
) -> Report:
    """Compare a ticket with its controls.

    Args:
        scores: The ticket's, named as those of the controls; the first one decides what a note says.
        controls: The result of `run_controls`.
        ticket: The ticket's mask.
        first: Mask before pruning.
        trainings: Length of each training in words, such as `3 epochs`.
        title: Title of the metric.
    """
    kinds = [kind for kind in WORDS if any(c.kind == kind for c in controls)]
    values = {k: {s: [c.scores[s] for c in controls if c.kind == k] for s in scores} for k in kinds}
    remaining = {k: 100 * (1 - (first if k == "dense" else ticket).sparsity) for k in WORDS}
    ranges = any(c.number for c in controls)
    rows = [
        {
            "network": "ticket",
            "weights %": remaining["random"],
            **cells({s: [v] for s, v in scores.items()}, ranges, title),
        }
    ]
    rows += [{"network": WORDS[k], "weights %": remaining[k], **cells(values[k], ranges, title)} for k in kinds]
    main = next(iter(scores))
    points = {k: tuple((remaining[k], value) for value in values[k][main]) for k in kinds}
    return Report(
        rows=tuple(
            Measurement.spread(f"{WORDS[k]} {title}/{s}", v, unit="%") for k in kinds for s, v in values[k].items()
        ),
        tables=(Table(title=f"Ticket and controls, each trained for {trainings}", rows=tuple(rows)),),
        notes=tuple(text for k in kinds for text in _verdict(k, scores[main], values[k][main])),
        curves=tuple(
            Curve(title=PLOT, name=WORDS[k], x=PRUNABLE, y=f"validation {title}, %", points=points[k], line=False)
            for k in kinds
        ),
    )


def cells(values: Mapping[str, Sequence[float]], ranges: bool, title: str = "accuracy") -> dict[str, Any]:
    """Return table cells of repeated scores in percent by split: medians, ranges if requested, and n."""
    row: dict[str, Any] = {}
    for split, scores in values.items():
        row[f"{title} {split} %"] = median(scores)
        if ranges:
            row[f"{split} range"] = f"{min(scores):.2f} to {max(scores):.2f}" if len(scores) > 1 else ""
    return row | {"n": len(next(iter(values.values())))}


def _order(run: tuple[Kind, int]) -> tuple[int, int]:
    return list(WORDS).index(run[0]), run[1]


def _verdict(kind: Kind, ticket: float, values: Sequence[float]) -> tuple[str, ...]:
    """Note a control that is as good as the ticket, or a dense network that is better."""
    median_text = f"{median(values):.2f} (n={len(values)})"
    if kind == "dense" and median(values) > ticket:
        return (f"the ticket ({ticket:.2f}) does not match the dense network trained as long ({median_text})",)
    if kind != "dense" and median(values) >= ticket:
        return (f"the ticket ({ticket:.2f}) does not beat its control, {WORDS[kind]} ({median_text})",)
    return ()
