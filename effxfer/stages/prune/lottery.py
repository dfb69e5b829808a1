"""Find lottery tickets by iterative pruning with rewinding, and compare them with control networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.net.reinitialize import initial_weights
from effxfer.prune.weights.controls import Kind
from effxfer.prune.weights.lottery import Rank, Ticket, find_ticket, report
from effxfer.prune.weights.mask import Mask
from effxfer.prune.weights.scores.movement import add_movement_, forget_, watch_
from effxfer.report import Report
from effxfer.stages.prune.calibration import ranking
from effxfer.stages.prune.ticket import rewind_text, write_ticket_file
from effxfer.stages.prune.ticket_controls import TrainedTicket, compare_ticket, repeat_seed
from effxfer.stages.settings.prune_settings import Lottery, Structured
from effxfer.stages.train.begin import begin_training
from effxfer.stages.train.finetune import accuracy_report, train
from effxfer.train.devices import Device
from effxfer.train.evaluate import score
from effxfer.train.fit import StepRange
from effxfer.train.optim.gradients import Loss
from effxfer.train.settings import FitSettings, rate
from effxfer.train.state import Work, clone
from effxfer.transfer.base import Strategy

# The last tenth: low rates that barely move the weights, as fine-tuning in Renda et al. 2020 (2003.02389) uses.
LATE = 0.9


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """Training of the rounds of a ticket and of its controls.

    Attributes:
        tasks: See `finetune`.
        strategy: Training strategy.
        settings: Settings of the stage.
        device: Device of the training.
        first: Training step that a round starts at; above 0 after rewinding to a step.
        loss: Training loss.
    """

    tasks: Sequence[Task]
    strategy: Strategy
    settings: Lottery
    device: Device
    first: int
    loss: Loss

    @property
    def keeps_weights(self) -> bool:
        """Whether a round continues from the weights of the previous one."""
        return self.settings.rewind in ("rate", "none")

    def train(self, net: Net, number: int, *, seed: int, work: Work, label: str) -> None:
        """Train a masked network with the settings of round `number`."""
        watching = self.settings.score == "movement"
        if watching:
            watch_(net, list(net.masks()))
        fine = number and self.settings.rewind == "none"
        train(
            net, self.tasks, self.strategy, last_phase(self.settings.fit) if fine else self.settings.fit,
            device=self.device, seed=seed, span=StepRange(first=self.first), work=work, label=label,
            before_step=partial(add_movement_, net) if watching else lambda: None, loss=self.loss,
        )  # fmt: skip


def lottery(net: Net, tasks: Sequence[Task], settings: Lottery, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Find a lottery ticket: train, prune, rewind, `settings.rounds` times, then train the ticket.

    Args:
        net: Network, changed in place; ends as the trained ticket, with its masks.
        tasks: See `finetune`.
        settings: Pruning target and training settings.
        device: Device of the training.
        work: Saves every finished round and control, and checkpoints of the current one.
    """
    training = begin_training(net, tasks, settings, device)
    strategy, loss = training.strategy, training.loss
    first, start = rewind_point(net, tasks, strategy, settings, device, work, loss)
    rounds = Rounds(tasks=tasks, strategy=strategy, settings=settings, device=device, first=first, loss=loss)
    if settings.score == "movement":
        watch_(net, list(Mask.of(net).keep))
    rank = ranking(settings, tasks[-1], device)

    def train_round(net: Net, _mask: Mask, number: int) -> float:
        label = f"ticket round {number} of {settings.rounds}"
        rounds.train(net, number, seed=settings.seed, work=work.part(f"round-{number}"), label=label)
        return score(net, tasks[-1].val, device)

    ticket = find_ticket(
        net, train_round, rounds=settings.rounds, sparsity=settings.sparsity, fraction=settings.fraction, score=rank,
        scope=settings.scope, exclude=settings.exclude, rewind=start, keep_weights=rounds.keeps_weights,
        max_drop=settings.max_drop, remember=work.once,
    )  # fmt: skip
    rows = accuracy_report(net, tasks[-1], device) + report(net, ticket) + training.notes
    write_ticket_file(
        net, net.state_dict() if rounds.keeps_weights else start, settings, rewind=rewind_text(settings), tasks=tasks,
        report=rows, device=device, work=work,
    )  # fmt: skip
    # Without a round that pruned there is nothing to control.
    comparison = controls(net, rounds, ticket, start, rank, rows, work) if ticket.number else Report()
    forget_(net)
    return net, rows + comparison


def rewind_point(
    net: Net,
    tasks: Sequence[Task],
    strategy: Strategy,
    settings: Lottery | Structured,
    device: Device,
    work: Work,
    loss: Loss,
) -> tuple[int, dict[str, Tensor]]:
    """Return step and weights of the rewind point (Frankle et al., 2019, https://arxiv.org/abs/1912.05671)."""
    if settings.rewind == "init":
        return 0, initial_weights(net, settings.seed)
    if isinstance(settings.rewind, str) or not settings.rewind:
        return 0, clone(net)
    length = len(strategy.draw(strategy.prepare(net, tasks), tasks, device.torch)(0))
    step = round(settings.rewind * length)
    if step >= settings.fit.epochs * length:
        raise SettingsError(f"rewind is {settings.rewind} epochs of {settings.fit.epochs}", "rewind to an early epoch")
    train(
        net, tasks, strategy, settings.fit, device=device, seed=settings.seed, span=StepRange(last=step),
        work=work.part("rewind"), label="train to the rewind point", loss=loss,
    )  # fmt: skip
    return step, clone(net)


def last_phase(fit: FitSettings) -> FitSettings:
    """Settings for fine-tuning after pruning: the constant rate at the start of the schedule's last tenth."""
    return fit.model_copy(update={"lr": fit.peak_lr * rate(LATE, fit), "schedule": "constant", "warmup": 0.0})


def controls(
    net: Net, rounds: Rounds, ticket: Ticket, start: dict[str, Tensor], rank: Rank, rows: Report, work: Work
) -> Report:
    """Train the ticket's controls for as many rounds as its weights were trained, and compare them.

    Args:
        net: Holds the ticket; never changed.
        rounds: Training of the rounds.
        ticket: The ticket.
        start: The state that rounds rewind to.
        rank: Scores weights.
        rows: Report of the ticket.
        work: Saves every finished control for resuming.
    """
    last, keeps, settings = ticket.number, rounds.keeps_weights, rounds.settings

    def train_control(net: Net, kind: Kind, repeat: int, work: Work) -> None:
        seed, label = repeat_seed(settings.seed, repeat), f"control {kind} {repeat + 1}"
        # One that rewinds is trained once from there; one that keeps its weights, in each
        # round. Round 0 is in `ticket.dense`.
        began = last if not keeps else 0 if kind == "re-initialised" else 1
        for number in range(began, last + 1):
            rounds.train(net, number, seed=seed, work=work.part(f"round-{number}"), label=label)

    trained = TrainedTicket(
        mask=ticket.mask, first=ticket.first, start=ticket.dense if keeps else start, dense=ticket.dense,
        # With one round the ticket itself is the one-shot mask.
        once=rank if last > 1 else None, epochs=settings.fit.epochs * (last + 1 if keeps else 1), report=rows,
    )  # fmt: skip
    task, device = rounds.tasks[-1], rounds.device
    return compare_ticket(net, train_control, trained, settings, task=task, device=device, work=work)
