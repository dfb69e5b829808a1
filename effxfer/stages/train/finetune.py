"""Fine-tune a network on a task."""

import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from torch import Tensor

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.report import Curve, Measurement, Report
from effxfer.stages.settings.common import Finetune
from effxfer.stages.train.adapter_training import Adapting
from effxfer.stages.train.begin import precision_note
from effxfer.stages.train.continual.memory_report import record_accuracy, report_memory
from effxfer.stages.train.continual.stream import align_tasks, grow_head, task_seed
from effxfer.stages.train.distillation import distillation_loss
from effxfer.stages.train.domain_report import SourceOnly, compares_domains, target_accuracy
from effxfer.stages.train.head import choose_thresholds, dropped_memory_note, new_head
from effxfer.stages.train.multi_task.task_controls import TaskControls
from effxfer.stages.train.target_domain import evaluate_target, selection_note
from effxfer.stages.train.zero_shot.controls import ZeroShotControls
from effxfer.stages.train.zero_shot.report import overlap_note
from effxfer.train.channels_last import channels_last
from effxfer.train.devices import Device
from effxfer.train.evaluate import predict, score_rows
from effxfer.train.fit import Row, StepRange, fit
from effxfer.train.optim.gradients import Loss
from effxfer.train.optim.microbatch import MOST_PARTS
from effxfer.train.settings import FitSettings
from effxfer.train.state import Work
from effxfer.train.time_budget import Allowance
from effxfer.transfer.base import Strategy
from effxfer.transfer.continual.learner import mask_columns, task_columns
from effxfer.transfer.strategies import make_strategy, require_kind


def finetune(net: Net, tasks: Sequence[Task], settings: Finetune, *, device: Device, work: Work) -> tuple[Net, Report]:
    """Fine-tune a network on the last of `tasks`.

    Args:
        net: Network, changed in place. It gets a new linear head unless it has one for the same classes.
        tasks: One task for plain fine-tuning; multi-task strategies take several.
        settings: Strategy, length and learning rate.
        device: Device of the training.
        work: Stores checkpoints.
    """
    history, notes = adapt(net, tasks, settings, device=device, work=work)
    tasks = align_tasks(net, tasks)
    validator = make_strategy(settings.strategy, settings.options).validator
    # Other validators have a scale of their own.
    is_metric = validator == "source"
    title, unit = (net.output.title, "%") if is_metric else (f"score by the validator {validator}", "")
    curves = training_curves(history, title=title, unit=unit)
    accuracy = accuracy_report(net, tasks[-1], device, groups=task_columns(net))
    return net, accuracy + curves + report_memory(net) + notes


def adapt(
    net: Net, tasks: Sequence[Task], settings: Finetune, *, device: Device, work: Work, label: str = "train",
    controlled: bool = True,
) -> tuple[list[Row], Report]:  # fmt: skip
    """Like `finetune` but without evaluation; return the history and the notes of strategy and teacher.

    Unless `controlled`, a domain adaptation is not compared with training on the source alone.
    """
    began = time.perf_counter()
    strategy = make_strategy(settings.strategy, settings.options)
    require_kind(strategy, tasks[-1])
    seed = settings.seed
    if strategy.continual:
        tasks, seed = align_tasks(net, tasks), task_seed(net, settings.seed)
    prior = overlap_note(net, tasks[-1]) if strategy.needs_class_embeddings else Report()
    head, memory = net.head, net.memory
    initial = deepcopy(net) if strategy.head() else net
    strategy.shape_body(net, tasks[-1])
    grows = strategy.continual and net.memory is not None
    head_is_new = grow_head(net, tasks[-1], seed) if grows else new_head(net, tasks[-1], seed, strategy.head())
    prior += dropped_memory_note(net, memory)
    if head_is_new and not grows:
        strategy.start_head(net, head, tasks[-1])
    # Before the size and the strategy change it: the teacher is the network as it came.
    before = deepcopy(net)
    if settings.size:
        net.set_input_size(settings.size)
    strategy, choice = strategy.choose(net.to(device.torch), tasks)
    loss, notes = distillation_loss(
        before.to(device.torch), strategy, settings.teacher, tasks[-1], head_is_new=head_is_new
    )
    adapting = Adapting(net, tasks[-1], strategy, settings, work) if strategy.adds else None
    compares = controlled and compares_domains(strategy, tasks[-1])
    control = SourceOnly(net, tasks, strategy, settings, device, work) if compares else None
    # The control takes as long.
    task_controls = TaskControls(net, initial, tasks, strategy, settings, device, work, controlled=controlled)
    seconds = _seconds_for_one(settings.seconds, control, task_controls)
    reports = list[Report]()
    history = train(
        net, tasks, strategy, settings.fit, device=device, seed=seed, work=work, label=label, loss=loss,
        remembers=strategy.continual, trained=adapting.record if adapting else None,
        allowance=time_allowance(seconds, began, tasks[-1]),
        observe=partial(target_accuracy, net, tasks[-1], device) if control else None, reports=reports,
    )  # fmt: skip
    if strategy.continual:
        record_accuracy(net, tasks, device)
    if control:
        notes += control.compare(net, history, train)
    notes += task_controls.compare(net, history, train)
    if strategy.needs_class_embeddings:
        notes += ZeroShotControls(net, tasks[-1], strategy, settings, device, train).complete()
    if adapting:
        notes += adapting.save(net, accuracy_report(net, tasks[-1], device), device)
    notes += sum(reports, Report())
    selection = selection_note(tasks, settings.fit.keep, strategy.validator) if history else Report()
    return history, prior + choice + precision_note(settings.fit, device) + notes + selection


def _seconds_for_one(
    seconds: float | None, control: SourceOnly | None, task_controls: TaskControls
) -> float | None:  # fmt: skip
    """Divide a stage's time by the number of its trainings."""
    trainings = task_controls.trainings + (1 if control else 0)
    return seconds / trainings if seconds else None


def train(
    net: Net, tasks: Sequence[Task], strategy: Strategy, settings: FitSettings, *,
    device: Device, seed: int, work: Work, span: StepRange = StepRange(),  # noqa: B008
    label: str = "train", loss: Loss | None = None,
    before_step: Callable[[], None] = lambda: None, after_step: Callable[[int], None] = lambda _steps: None,
    no_best_before: int = 0, trained: Callable[[Net], None] | None = None, allowance: Allowance | None = None,
    observe: Callable[[], Mapping[str, float]] | None = None, reports: list[Report] | None = None,
    remembers: bool = False,
) -> list[Row]:  # fmt: skip
    """Train a network in place by a strategy, optionally with another loss; pruned weights stay zero.

    `trained` is called with the trained network before the strategy converts it back into a plain network, and the
    strategy's own report is appended to `reports`. If it `remembers`, the task is added to the network's memory.
    """
    net.to(device.torch)
    net.apply_masks_()
    # Strategies draw weights when they prepare, and dropout draws in every step.
    torch.manual_seed(seed)
    learner = strategy.prepare(net, tasks).to(device.torch)
    # A closed formula is solved by now.
    settings = settings.model_copy(update={"epochs": 0}) if strategy.solves else settings

    def start_step() -> None:
        strategy.before_step(learner)
        before_step()

    def finish_step(step: int) -> None:
        after_step(step)
        net.apply_masks_()

    def validate() -> float:
        net.apply_masks_()  # averaged weights are not zero as soon as they are removed
        with strategy.as_finished(learner, tasks):
            return strategy.judge(learner, tasks, device)

    def observe_finished() -> Mapping[str, float]:
        with strategy.as_finished(learner, tasks):
            return observe() if observe else {}

    with channels_last(learner):
        history = fit(
            learner, strategy.draw(learner, tasks, device.torch), loss or strategy.loss, settings,
            device=device, seed=seed, begin_epoch=strategy.begin_epoch, before_step=start_step,
            after_step=finish_step, move_state=partial(strategy.after_step, learner), no_best_before=no_best_before,
            validate=validate, observe=observe_finished if observe else None, work=work, span=span,
            allowance=allowance, most_parts=1 if strategy.compares_examples else MOST_PARTS,
            combination=strategy.combination(learner), label=label,
        )  # fmt: skip
    # Also without epochs: a strategy may have solved the head.
    choose_thresholds(net, tasks[-1], device)
    if trained:
        trained(net)
    if reports is not None:
        reports.append(strategy.report(learner, tasks, device))
    memory = strategy.remember(learner, tasks) if remembers else net.memory
    strategy.finish(learner, tasks).apply_masks_()
    net.memory = memory
    if settings.epochs:
        net.smoothing = max(net.smoothing, strategy.label_smoothing)
    return history


def time_allowance(
    seconds: float | None, began: float, task: Task, now: Callable[[], float] = time.perf_counter
) -> Allowance | None:
    """Time left for training since `began`, after reserving time to evaluate two splits; None without a limit."""
    if seconds is None:
        return None
    # In validations, as the training loop measures what one takes.
    measuring = (len(task.val) + len(task.test)) / len(task.val)
    return Allowance(seconds=seconds - (now() - began), validations=measuring)


def accuracy_report(net: Net, task: Task, device: Device, *, groups: Tensor | None = None) -> Report:
    """Evaluate accuracy on the validation split, the test split and the target, if they exist.

    Args:
        net: The network.
        task: The task.
        device: Device of the network.
        groups: Task of each column, `(C,)`, where the task of each example is known; None if any class competes.
    """
    rows, notes = list[Measurement](), list[str]()
    for name, split in task.reported_splits.items():
        logits = predict(net, split.rows, net.input, device)
        if groups is not None:
            free = net.output.score(logits.numpy(), split.labels).value
            notes.append(f"{name}: {free:.2f} % where all classes compete, as in an exported file")
            logits = mask_columns(logits, torch.from_numpy(np.asarray(split.labels)), groups)
        rows += score_rows(net.output, logits.numpy(), split.labels, name, net.input.unit)
    if notes:
        notes.insert(0, "accuracy is among the classes of each example's task, which must be known")
    return Report(rows=tuple(rows), notes=tuple(notes)) + evaluate_target(net, task, device)


def training_curves(history: Sequence[Row], name: str = "", title: str = "accuracy", unit: str = "%") -> Report:
    """Report epochs, speed and curves of a training run; `title` is that of what chose the epoch."""
    if not history:
        return Report()
    losses = tuple((row["epoch"], row["loss"]) for row in history)
    scores = tuple((row["epoch"], row["score"]) for row in history if "score" in row)
    speed = Measurement.spread("steps per second", [row["steps_per_s"] for row in history])
    return Report(
        rows=(Measurement(name="epochs", value=len(history)), speed),
        curves=(
            Curve(title="Training loss", name=name or "loss", x="epoch", y="loss", points=losses),
            Curve(
                title=f"Validation {title}",
                name=name or "validation",
                x="epoch",
                y=f"{title}, {unit}" if unit else title,
                points=scores,
            ),
        ),
    )
