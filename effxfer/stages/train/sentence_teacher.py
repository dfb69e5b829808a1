"""Distil the vectors of a larger text encoder (Reimers & Gurevych, 2020, https://arxiv.org/abs/2004.09813).

Teacher and student may have different tokenizers and widths: each reads a text in its own way, and the teacher's
vectors are brought to the student's width by their principal components.

Shape legend: N training texts, B texts of a batch, T width of the teacher, D width of the student.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from effxfer import model_source, progress
from effxfer.data.batches.buckets import length_order
from effxfer.data.batches.collate import input_tensor
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.net.settings import BackboneSettings
from effxfer.net.taps import capture_taps, tap_widths
from effxfer.report import Report
from effxfer.stages.settings.pretrain_settings import SentenceTeacher
from effxfer.train.devices import Device
from effxfer.train.evaluate import evaluation_mode
from effxfer.train.optim.gradients import Loss
from effxfer.train.state import Work

BATCH = 64  # chosen: texts of like length, so that little is padded; the memory is a fraction of training's


def teacher_loss(
    net: Net, task: Task, loss: Loss, settings: SentenceTeacher | None, device: Device, work: Work
) -> tuple[Loss, Report]:
    """Return a loss with a term for the distance to a teacher's vectors; the loss itself without a teacher.

    Args:
        net: The student.
        task: Its training texts are what both read.
        loss: Takes batches of `(ids, ..., index)`, whose last part are the rows of the training texts.
        settings: The teacher.
        device: Where both run.
        work: Keeps the vectors, so that a resumed training does not compute them again.

    Raises:
        SettingsError: If the teacher reads no texts, or the task's texts are not available to it.
    """
    if settings is None:
        return loss, Report()
    width = tap_widths(net, ("out",))["out"]
    stored = work.once("teacher", lambda: {"vectors": _targets(settings.source, task, width, device)})
    vectors, weight = stored["vectors"].to(device.torch), settings.weight

    def distil(learner: Net, batch: Any, progress: float) -> Mapping[str, Tensor]:
        with capture_taps(learner.body, ("out",)) as outputs:
            terms = loss(learner, batch, progress)
        pooled = learner.pool_tap(outputs["out"], batch[0])
        distance = 1 - F.cosine_similarity(pooled.float(), vectors[batch[-1]])
        return {**terms, "teacher": weight * distance.mean()}

    return distil, Report(notes=(f"teacher: {settings.source}, {vectors.shape[1]} numbers for each text",))


def _targets(source: str, task: Task, width: int, device: Device) -> Tensor:
    teacher, _ = model_source.open_model(BackboneSettings(source=source))
    if teacher.input.kind != "text":
        raise SettingsError(f"teacher.source: {source} takes {teacher.input.unit}", "name a text encoder")
    # Longer texts than the student reads would be described by what it does not see.
    size = min(teacher.input.size, task.input.size)
    return reduce_width(_vectors(teacher, task.with_input(teacher.input.with_size(size)), device), width)


@torch.no_grad()
def _vectors(teacher: Net, task: Task, device: Device) -> Tensor:
    """Return the teacher's vectors of the training texts, of length 1, float32 `(N, T)` on the CPU."""
    rows, teacher = task.train.rows, teacher.to(device.torch)
    order, inverse = length_order(rows.lengths)
    vectors = list[Tensor]()
    with evaluation_mode(teacher), progress.bar("teacher", len(order)) as advance:
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            features = teacher.pooled_taps(input_tensor(rows[chosen], task.input, device.torch), ("out",))["out"]
            vectors.append(F.normalize(features.float(), dim=1).cpu())
            advance(len(chosen), "")
    return torch.cat(vectors)[torch.from_numpy(inverse)]


def reduce_width(vectors: Tensor, width: int) -> Tensor:
    """Bring vectors to another width by their principal components, which keep most of their differences.

    Args:
        vectors: `(N, T)`.
        width: D; beyond T the rest is 0.

    Returns:
        float32 `(N, D)`, with mean 0.
    """
    centred = vectors.double() - vectors.double().mean(0)
    _, components = torch.linalg.eigh(centred.T @ centred)  # by ascending variance
    reduced = centred @ components.flip(1)[:, :width]
    return F.pad(reduced, (0, width - reduced.shape[1])).float()
