"""Batches of a new task with examples of earlier ones among them.

Shape legend: B examples of the task, M kept examples beside them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from effxfer.data.batches.augment import Augment, mix_images
from effxfer.data.batches.batches import Batches, draw_epochs, make_batches, make_views
from effxfer.data.batches.collate import input_tensor
from effxfer.data.continual.exemplars import Exemplars
from effxfer.data.task import Task
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.rows import concat_rows
from effxfer.transfer.continual.kept_examples import rehearsal_task

Look = Callable[[Tensor, Tensor, Generator], Tensor]


def draw_with_exemplars(
    task: Task, exemplars: Exemplars | None, *, batch: int, share: float, augment: Augment, device: torch.device,
    balance: float = 0.0, logits: Tensor | None = None,
) -> Callable[[int], Batches]:  # fmt: skip
    """Return a function from an epoch's seed to batches of the task, with kept examples added to each.

    A batch is `(inputs, labels)` of B + M examples; with `logits` also theirs, `(B + M, C)`, NaN for the task's own.

    Args:
        task: The new task; an epoch is a pass over its training split.
        exemplars: Kept examples; None for none.
        batch: B.
        share: M / B, above 0.
        augment: Augmentation of both.
        device: Where inputs and labels go.
        balance: See `make_batches`; of the task's own examples.
        logits: Logits of the kept examples `(N, C)`, NaN where they had no column.
    """
    if exemplars is None:
        return make_batches(task, batch, augment, device, balance)
    look = _look(task, exemplars, augment, device)
    labels, old_labels = torch.tensor(task.train.labels), torch.from_numpy(exemplars.labels)
    count = len(exemplars)

    def make(index: Tensor, rng: Generator) -> Any:
        chosen = draw_rows(count, max(1, round(len(index) * share)), rng)
        both = torch.cat([labels[index], old_labels[chosen]]).to(device)
        inputs = look(index, chosen, rng)
        if logits is not None:
            present = logits.new_full((len(index), logits.shape[1]), torch.nan)
            return inputs, both, torch.cat([present, logits[chosen]]).to(device)
        return mix_images(inputs, both, len(task.classes), augment, rng) if inputs.dim() == 4 else (inputs, both)

    return draw_epochs(task, batch, make, balance)


def draw_rows(count: int, number: int, rng: Generator) -> Tensor:
    """Draw `number` of `count` rows, each at most once as long as there are enough."""
    if number > count:
        return torch.randint(count, (number,), generator=rng)
    return torch.randperm(count, generator=rng)[:number]


def _look(task: Task, exemplars: Exemplars, augment: Augment, device: torch.device) -> Look:
    """Return a function from rows of the task and of the kept examples to inputs `(B + M, ...)`."""
    if isinstance(task.input, Preprocess):
        new = make_views(task.train, task.input, augment, device)
        old = make_views(rehearsal_task(task, exemplars).train, task.input, augment, device)
        return lambda index, chosen, rng: torch.cat([new(index, rng), old(chosen, rng)])
    make_batches(task, 1, augment, device)  # refuses augmentation of what is no image
    rows, old_rows, input = task.train.rows, exemplars.rows, task.input

    def join(index: Tensor, chosen: Tensor, _rng: Generator) -> Tensor:
        return input_tensor(concat_rows([rows[index.numpy()], old_rows[chosen.numpy()]]), input, device)

    return join
