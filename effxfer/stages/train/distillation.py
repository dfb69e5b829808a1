"""Distil the network from a frozen copy of its own starting weights, or from another model."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.model_source import find
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.inputs import Input
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.text.tokens import Tokens
from effxfer.runtime.vectors.vectors import Vectors
from effxfer.train.optim.gradients import Loss
from effxfer.train.settings import Teacher
from effxfer.transfer.base import Strategy
from effxfer.transfer.regularized.block_maps import block_ends
from effxfer.transfer.regularized.distill import TEMPERATURE, blend_teacher_loss, frozen_copy
from effxfer.transfer.regularized.teacher_texts import teacher_reader


def distillation_loss(
    net: Net, strategy: Strategy, settings: Teacher, task: Task, *, head_is_new: bool
) -> tuple[Loss, Report]:
    """Return the training loss, with distillation from a copy of the current network if the settings enable it.

    Args:
        net: The teacher, unless the settings name another; on its device. The teacher keeps its input side.
        strategy: Training strategy of the student.
        settings: Weights of the distillation terms, temperature and source of the teacher.
        task: The student's task; a teacher with another tokenizer reads its training texts.
        head_is_new: Whether the head is untrained, so that its outputs cannot be distilled.

    Returns:
        The loss, and a note if the teacher was trained with label smoothing.

    Raises:
        SettingsError: If the network has no trained head, or the strategy does not support a teacher.
        ModelFileError: If `source` is not a model directory.
    """
    if not settings.listens:
        return strategy.loss, Report()
    if not strategy.of_images:
        name = type(strategy).__name__.lower()
        raise SettingsError(f"teacher cannot be combined with strategy {name!r}", "use strategy = 'full'")
    if isinstance(net.output, TaskOutputs):
        raise SettingsError("a teacher has one task, this network several", "leave out teacher")
    teacher = load_teacher(settings, net) if settings.source else net
    if head_is_new and not settings.source:
        raise SettingsError("teacher: the network is not trained for these classes yet", "run finetune before it")
    loss = loss_with_teacher(teacher, task, strategy, settings)
    return loss, smoothing_note(teacher.smoothing, temperature_for(teacher, settings)) if settings.logits else Report()


def loss_with_teacher(
    teacher: Net, task: Task, strategy: Strategy, settings: Teacher,
    channels: Mapping[str, Sequence[int] | None] | None = None,
) -> Loss:  # fmt: skip
    """Return the loss of a strategy with a teacher's terms, for a student with the input of the task.

    `channels` is the result of `kept_channels` for a pruned student; without it all channels are compared.
    """
    if channels is None and settings.maps:
        channels = dict.fromkeys(block_ends(teacher))
    loss: Loss = blend_teacher_loss(
        strategy.loss, teacher_for(teacher, task.input), logits=settings.logits, size=teacher.input.size,
        features=settings.features, temperature=temperature_for(teacher, settings),
        read=own_reader(teacher.input, task), maps=settings.maps, channels=channels,
    )  # fmt: skip
    return loss


def temperature_for(teacher: Net, settings: Teacher) -> float:
    """Return the temperature of the settings, or the one that suits how the teacher was trained."""
    # Smoothing erases how classes resemble each other, which a temperature is to reveal
    # (Müller et al. 2019, 1906.02629).
    return settings.temperature or (1.0 if teacher.smoothing else TEMPERATURE)


def load_teacher(settings: Teacher, net: Net) -> Net:
    """Open the teacher named by the settings, on the device of the student.

    Raises:
        SettingsError: If its classes differ, it cannot read what the student reads, or its backbone differs and
            `features` or `maps` is set.
        ModelFileError: If it is not a model directory.
    """
    source = settings.source or ""
    model = find(source)
    if model is None:
        raise SettingsError(
            f"teacher.source: {source!r} is not a model directory", "pass the directory of a trained model"
        )
    teacher = model.net().to(next(net.parameters()).device)
    if teacher.classes != net.classes:
        problem = f"teacher.source: {source} has {len(teacher.classes)} classes, this task has {len(net.classes)}"
        if len(teacher.classes) == len(net.classes):
            problem = f"teacher.source: {source} has {len(teacher.classes)} classes with other names than this task"
        raise SettingsError(problem, "pass a network that was trained for the same classes with the same names")
    if mistake := describe_misfit(teacher.input, net.input, per=net.output.per):
        raise SettingsError(f"teacher.source: {source} {mistake}", "pass a network that reads what this one reads")
    for name in ("features", "maps"):
        if getattr(settings, name) and teacher.backbone != net.backbone:
            raise SettingsError(f"teacher.{name} needs a teacher with the same backbone", f"leave out teacher.{name}")
    return teacher


def describe_misfit(teacher: Input, student: Input, *, per: str = "example") -> str:
    """Return why a teacher cannot read what its student reads; empty if it can.

    `per` is that of the labels: those of positions are compared token by token, which another tokenizer has not.
    """
    if teacher.kind != student.kind:
        return f"takes {teacher.unit}, this network {student.unit}"
    if isinstance(teacher, Tokens) and isinstance(student, Tokens):
        if per == "position" and not _encode_alike(teacher, student):
            return "has another tokenizer, whose tags and answers stand at other tokens"
        if teacher.takes_pairs != student.takes_pairs:
            return f"takes {'pairs' if teacher.takes_pairs else 'single texts'}, this network does not"
        if teacher.size < student.size:
            return f"reads {teacher.size} tokens, this network {student.size}"
    if isinstance(teacher, Vectors) and teacher != student:
        return "takes vectors of another width, or standardised by other data"
    return ""


def own_reader(teacher: Input, task: Task) -> Callable[[Tensor], Tensor] | None:
    """Return how a teacher with another tokenizer or pattern reads its student's texts; None if both read alike.

    Raises:
        DataError: If the texts of the task are not available.
    """
    student = task.input
    if not isinstance(teacher, Tokens) or not isinstance(student, Tokens) or _encode_alike(teacher, student):
        return None
    return teacher_reader(teacher, task)


def _encode_alike(teacher: Tokens, student: Tokens) -> bool:
    return (teacher.digest, teacher.pad, teacher.pattern) == (student.digest, student.pad, student.pattern)


def teacher_for(teacher: Net, student: Input) -> Net:
    """Copy a network as a frozen teacher for images that are normalised by another preprocessing."""
    copy, native = frozen_copy(teacher), teacher.input
    if not isinstance(native, Preprocess) or not isinstance(student, Preprocess):
        return copy
    if (native.mean, native.std) != (student.mean, student.std):
        device = next(copy.parameters()).device
        mean, std = (
            torch.tensor([getattr(p, name) for p in (student, native)], device=device) for name in ("mean", "std")
        )
        scale, shift = (std[0] / std[1])[:, None, None], ((mean[0] - mean[1]) / std[1])[:, None, None]
        # Undo the student's normalisation and apply the teacher's in one multiply-add.
        copy.register_forward_pre_hook(lambda _net, inputs: (inputs[0] * scale + shift,))
    return copy


def smoothing_note(smoothing: float, temperature: float) -> Report:
    """Note that a teacher was trained with label smoothing, which removes information on class similarity."""
    if not smoothing:
        return Report()
    text = f"the teacher was trained with label smoothing {smoothing:g}"
    if temperature > 1:
        advice = (
            f"which distils badly at temperature {temperature:g}: leave teacher.temperature out, or train it without"
        )
    else:
        advice = f"so its outputs are used at temperature {temperature:g}; a teacher without it would be better"
    return Report(notes=(f"{text}, {advice}",))
