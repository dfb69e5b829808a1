"""Gradual magnitude pruning during one training run."""

from collections.abc import Sequence
from functools import partial

from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.prune.weights.controls import Kind
from effxfer.prune.weights.gradual import Ramp, make_pruning_hook
from effxfer.prune.weights.lottery import by_magnitude
from effxfer.prune.weights.mask import Mask
from effxfer.prune.weights.scores.movement import add_movement_, forget_, watch_
from effxfer.prune.weights.sparsity import density
from effxfer.report import Curve, Report
from effxfer.stages.prune.calibration import ranking
from effxfer.stages.prune.ticket import TRAINED, write_ticket_file
from effxfer.stages.prune.ticket_controls import TrainedTicket, compare_ticket, repeat_seed
from effxfer.stages.settings.prune_settings import Gradual
from effxfer.stages.train.begin import begin_training
from effxfer.stages.train.finetune import accuracy_report, train, training_curves
from effxfer.train.devices import Device
from effxfer.train.state import Work, clone
from effxfer.transfer.strategies import make_strategy


def gradual(net: Net, tasks: Sequence[Task], settings: Gradual, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Train once while weights are removed on a cubic schedule.

    Args:
        net: Network, changed in place; ends trained, with its masks.
        tasks: See `finetune`.
        settings: Pruning schedule and training settings.
        device: Device of the training.
        work: Saves checkpoints of the training, and every finished control.
    """
    if not make_strategy(settings.strategy, settings.options).of_images:
        hint = "use strategy = 'full', or method = 'lottery'"
        raise SettingsError(f"strategy {settings.strategy!r} does not train the weights to be pruned", hint)
    training = begin_training(net, tasks, settings, device)
    strategy, loss = training.strategy, training.loss
    first, start = Mask.of(net, settings.exclude), clone(net)
    # Steps per epoch: strategies draw different numbers of batches from the same images.
    length = len(strategy.draw(strategy.prepare(net, tasks), tasks, device.torch)(0))
    ramp, rank = ramp_of(settings, length, first), ranking(settings, tasks[-1], device)
    if settings.score == "movement":
        watch_(net, list(first.keep))
    shrink = make_pruning_hook(net, first, ramp, score=rank, scope=settings.scope)
    history = train(
        net, tasks, strategy, settings.fit, device=device, seed=settings.seed, work=work.part("gradual"),
        before_step=partial(add_movement_, net), after_step=shrink, no_best_before=ramp.last, loss=loss,
    )  # fmt: skip
    # Sums of movement are no part of the result.
    forget_(net)
    ticket = Mask({name: net.masks()[name].clone() for name in first.keep})
    report = accuracy_report(net, tasks[-1], device) + density(net, ticket)
    report += training_curves(history, title=net.output.title) + remaining_weights_curve(ramp, length)
    report += training.notes
    write_ticket_file(
        net, net.state_dict(), settings, rewind=TRAINED, tasks=tasks, report=report, device=device, work=work
    )  # fmt: skip

    def train_control(net: Net, kind: Kind, number: int, work: Work) -> None:
        train(
            net, tasks, strategy, settings.fit, device=device, seed=repeat_seed(settings.seed, number), work=work,
            label=f"control {kind} {number + 1}", loss=loss,
        )  # fmt: skip

    trained = TrainedTicket(
        mask=ticket, first=first, start=start, dense=start, epochs=settings.fit.epochs, report=report,
        # Weights that were not trained have not moved: one-shot pruning ranks them by magnitude instead.
        once=by_magnitude if settings.score == "movement" else rank,
    )  # fmt: skip
    return net, report + compare_ticket(net, train_control, trained, settings, task=tasks[-1], device=device, work=work)


def ramp_of(settings: Gradual, length: int, first: Mask) -> Ramp:
    """Place the cubic sparsity schedule on the training steps."""
    steps = settings.fit.epochs * length
    # At least one step: a ramp must have an end, also where a training is a few steps long.
    last = max(round(settings.end * steps), 1)
    begin = min(round(settings.begin * steps), last)
    return Ramp(first=begin, last=last, every=settings.every, start=first.sparsity, final=settings.sparsity)


def remaining_weights_curve(ramp: Ramp, length: int) -> Report:
    """Plot the remaining weights by epoch."""
    points = tuple(
        (step / length, 100 * (1 - ramp.sparsity_at(step))) for step in range(ramp.last + 1) if ramp.is_due(step)
    )
    shown = Curve(title="Weights remaining", name="ticket", x="epoch", y="prunable weights remaining, %", points=points)
    return Report(curves=(shown,))
