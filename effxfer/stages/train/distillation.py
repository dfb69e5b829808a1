"""Let a stage's network learn from what it was when the stage got it."""

import torch

from effxfer.artifact import find
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.report import Report
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.train.optim.gradients import Loss
from effxfer.train.settings import Teacher
from effxfer.transfer.base import Strategy
from effxfer.transfer.regularized.distill import TEMPERATURE, blend_teacher_loss, frozen_copy


def distillation_loss(net: Net, strategy: Strategy, settings: Teacher, *, fresh: bool) -> tuple[Loss, Report]:
    """Give the loss to train with, which listens to a copy of a network as it is now, if there is to be a teacher.

    Args:
        net: On its device; the teacher, unless the settings name another. The teacher keeps its side of images.
        strategy: How the pupil is trained.
        settings: How much to listen, and to what.
        fresh: Whether the head is new, so that there is nothing to be learnt from it.

    Returns:
        The loss; and a note, where the teacher was trained with label smoothing.

    Raises:
        SettingsError: If there is nothing to listen to, or the strategy cannot listen.
        ModelFileError: If the settings name a teacher that is no model directory.
    """
    if not settings.listens:
        return strategy.loss, Report()
    if not strategy.of_images:
        name = type(strategy).__name__.lower()
        raise SettingsError(f"teacher cannot be combined with strategy {name!r}", "use strategy = 'full'")
    teacher = load_teacher(settings, net) if settings.source else net
    if fresh and not settings.source:
        raise SettingsError("teacher: the network is not trained for these classes yet", "run finetune before it")
    temperature = settings.temperature or (1.0 if teacher.smoothing else TEMPERATURE)
    loss: Loss = blend_teacher_loss(
        strategy.loss, teacher_for(teacher, net.preprocess), logits=settings.logits, size=teacher.preprocess.size,
        features=settings.features, temperature=temperature,
    )  # fmt: skip
    return loss, smoothing_note(teacher.smoothing, temperature) if settings.logits else Report()


def load_teacher(settings: Teacher, net: Net) -> Net:
    """Open the network that settings name, on the device of the pupil.

    Raises:
        SettingsError: If it knows other classes, or features are to be compared with those of another backbone.
        ModelFileError: If it is no model directory.
    """
    source = settings.source or ""
    found = find(source)
    if found is None:
        raise SettingsError(
            f"teacher.source: {source!r} is no model directory", "give the directory of a trained model"
        )
    teacher = found.net().to(next(net.parameters()).device)
    if teacher.classes != net.classes:
        told = f"teacher.source: {source} knows {len(teacher.classes)} classes, not the {len(net.classes)} of this task"
        raise SettingsError(told, "give a network that was trained for the same classes, of the same names")
    if settings.features and teacher.backbone != net.backbone:
        told = "teacher.features compares stages of one backbone, and the teacher has another"
        raise SettingsError(told, "leave teacher.features out")
    return teacher


def teacher_for(teacher: Net, seen: Preprocess) -> Net:
    """Copy a network to be a teacher that takes images as another preprocessing normalises them."""
    copy, own = frozen_copy(teacher), teacher.preprocess
    if (own.mean, own.std) != (seen.mean, seen.std):
        device = next(copy.parameters()).device
        mean, std = (torch.tensor([getattr(p, name) for p in (seen, own)], device=device) for name in ("mean", "std"))
        scale, shift = (std[0] / std[1])[:, None, None], ((mean[0] - mean[1]) / std[1])[:, None, None]
        copy.register_forward_pre_hook(lambda _net, inputs: (inputs[0] * scale + shift,))
    return copy


def smoothing_note(smoothing: float, temperature: float) -> Report:
    """Note that a teacher was trained with label smoothing, which makes its outputs say little about other classes."""
    if not smoothing:
        return Report()
    text = f"the teacher was trained with label smoothing {smoothing:g}"
    if temperature > 1:
        advice = (
            f"which distils badly at temperature {temperature:g}: leave teacher.temperature out, or train it without"
        )
    else:
        advice = f"so its outputs are taken at temperature {temperature:g}; one trained without would teach more"
    return Report(notes=(f"{text}, {advice}",))
