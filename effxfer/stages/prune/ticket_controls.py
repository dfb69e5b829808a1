"""Train the controls of a ticket, and put the ticket beside them."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass

from torch import Tensor

from effxfer.data.batches.batches import seed_of
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.prune.weights.controls import Kind, report_controls, run_controls
from effxfer.prune.weights.lottery import Rank
from effxfer.prune.weights.mask import Mask
from effxfer.prune.weights.select import Scope, select
from effxfer.report import Report
from effxfer.stages.settings.prune_settings import Gradual, Lottery
from effxfer.train.devices import Device
from effxfer.train.evaluate import score
from effxfer.train.state import Work

KINDS: Mapping[str, tuple[Kind, ...]] = {
    "none": (),
    "fast": ("random", "one-shot"),
    "full": ("random", "re-initialised", "one-shot", "dense"),
}
Train = Callable[[Net, Kind, int, Work], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A ticket, as far as its controls must resemble it.

    Attributes:
        mask: What survived.
        first: What survived before pruning.
        start: The state (weights and buffers) that the training of controls starts from.
        once: Scores the weights of `dense`, to prune them in one step; None where the ticket itself was pruned so.
        dense: The state to be pruned in one step.
        epochs: How long the ticket was trained; with patience, at most.
        report: What was measured of it.
    """

    mask: Mask
    first: Mask
    start: Mapping[str, Tensor]
    once: Rank | None
    dense: Mapping[str, Tensor]
    epochs: int
    report: Report


def compared(
    net: Net, train: Train, found: Found, settings: Lottery | Gradual, *, task: Task, device: Device, work: Work
) -> Report:
    """Train the controls that the settings ask for, and put the ticket beside them.

    Args:
        net: Holds the trained ticket; stays as it is.
        train: `(net, kind, repeat, work)` trains a control in place as long as the ticket was.
        found: The ticket.
        settings: Which controls, and how often.
        task: To measure accuracy on.
        device: Where.
        work: Keeps every finished control.
    """
    kinds = tuple(kind for kind in KINDS[settings.controls] if kind != "one-shot" or found.once)
    if not kinds:
        return Report()
    splits = task.reported

    def trained(net: Net, kind: Kind, number: int) -> dict[str, float]:
        train(net, kind, number, work.at(f"control-{kind}-{number}"))
        return {name: score(net, split, net.preprocess, device, name).value for name, split in splits.items()}

    runs = run_controls(
        net, trained, kinds=kinds, repeats=settings.control_seeds if settings.controls == "full" else 1,
        seed=settings.seed, ticket=found.mask, first=found.first, one_shot=in_one_step(net, found, settings.scope),
        start=found.start, remember=work.once,
    )  # fmt: skip
    scores = {name: found.report[f"accuracy/{name}"].value for name in splits}
    least = "up to " if settings.fit.patience else ""
    time = f"{least}{found.epochs} epoch{'s' * (found.epochs != 1)}"
    return report_controls(scores, runs, ticket=found.mask, first=found.first, trainings=time)


def in_one_step(net: Net, found: Found, scope: Scope) -> Mask:
    """Give the mask of the ticket's sparsity that pruning in one step leaves; the ticket's, if it was pruned so."""
    if found.once is None:
        return found.mask
    dense = deepcopy(net)
    found.first.replace_(dense)
    dense.load_state_dict(found.dense, strict=False)
    return select(found.once(dense, found.first), found.first, sparsity=found.mask.sparsity, scope=scope)


def repeat_seed(seed: int, number: int) -> int:
    """Give the seed of a control's training: the first repeat sees the same batches as the ticket did."""
    return seed_of(seed, "control", number) % 2**31 if number else seed
