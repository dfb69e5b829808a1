"""Train the control networks of a ticket, and compare the ticket with them."""

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
class TrainedTicket:
    """The properties of a ticket that its controls share.

    Attributes:
        mask: Mask of the ticket.
        first: Mask before pruning.
        start: The state (weights and buffers) that the training of controls starts from.
        once: Scores the weights of `dense` for one-shot pruning; None if the ticket itself was pruned in one shot.
        dense: The state for one-shot pruning.
        epochs: Training epochs of the ticket; an upper bound with patience.
        report: Report of its accuracy.
    """

    mask: Mask
    first: Mask
    start: Mapping[str, Tensor]
    once: Rank | None
    dense: Mapping[str, Tensor]
    epochs: int
    report: Report


def compare_ticket(
    net: Net,
    train: Train,
    ticket: TrainedTicket,
    settings: Lottery | Gradual,
    *,
    task: Task,
    device: Device,
    work: Work,
) -> Report:
    """Train the controls that the settings request, and compare the ticket with them.

    Args:
        net: Holds the trained ticket; never changed.
        train: `(net, kind, repeat, work)` trains a control in place for as long as the ticket.
        ticket: The ticket.
        settings: Kinds and repetitions of controls.
        task: Task to evaluate accuracy on.
        device: Device of the training.
        work: Saves every finished control for resuming.
    """
    # Pruned in one shot, a ticket is its own one-shot control.
    kinds = tuple(kind for kind in KINDS[settings.controls] if kind != "one-shot" or ticket.once)
    if not kinds:
        return Report()
    splits = task.reported_splits

    def train_and_score(net: Net, kind: Kind, number: int) -> dict[str, float]:
        train(net, kind, number, work.part(f"control-{kind}-{number}"))
        return {name: score(net, split, device) for name, split in splits.items()}

    runs = run_controls(
        net, train_and_score, kinds=kinds, repeats=settings.control_seeds if settings.controls == "full" else 1,
        seed=settings.seed, ticket=ticket.mask, first=ticket.first, one_shot=one_shot_mask(net, ticket, settings.scope),
        start=ticket.start, remember=work.once,
    )  # fmt: skip
    scores = {name: ticket.report[f"{net.output.metric}/{name}"].value for name in splits}
    bound = "up to " if settings.fit.patience else ""
    time = f"{bound}{ticket.epochs} epoch{'s' * (ticket.epochs != 1)}"
    return report_controls(scores, runs, ticket=ticket.mask, first=ticket.first, trainings=time, title=net.output.title)


def one_shot_mask(net: Net, ticket: TrainedTicket, scope: Scope) -> Mask:
    """Mask of one-shot pruning to the ticket's sparsity; the ticket's own mask if it was pruned in one shot."""
    if ticket.once is None:
        return ticket.mask
    dense = deepcopy(net)
    ticket.first.replace_(dense)
    # Not strict: the state may lack masks, which `first` has just set.
    dense.load_state_dict(ticket.dense, strict=False)
    return select(ticket.once(dense, ticket.first), ticket.first, sparsity=ticket.mask.sparsity, scope=scope)


def repeat_seed(seed: int, number: int) -> int:
    """Seed of a control's training run; the first repeat sees the same batches as the ticket."""
    return seed_of(seed, "control", number) % 2**31 if number else seed
