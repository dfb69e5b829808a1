"""Batches of one epoch, each a function of (seed, step) only, so that training can resume at any step."""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from effxfer.data.batches.augment import Augment, augment, mix_images, normalize
from effxfer.data.batches.buckets import bucket_rows
from effxfer.data.batches.collate import input_tensor, label_tensor
from effxfer.data.batches.resampling import draw_balanced, draw_tables
from effxfer.data.decoded.joined_array import JoinedArray
from effxfer.data.task import Split, Task, require_images
from effxfer.errors import SettingsError
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.inputs import Input
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.rows import Ragged

Make = Callable[[Tensor, Generator], Any]
Order = Callable[[Generator], Tensor]
# Chosen: weights, maps and optimizer need the rest; a copy per batch costs little beside a step.
RESIDENT_SHARE = 0.4
# 200 MB at 256 px.
COPIED_ROWS = 1024
AS_THEY_ARE = Augment(crop="none", flip=False)


def seed_of(*parts: object) -> int:
    """Derive an independent seed in [0, 2^63) from its name parts."""
    # By a digest: a sum such as seed + step would give runs of neighbouring seeds the same numbers.
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def make_generator(*parts: object) -> Generator:
    """Create a CPU generator seeded with `seed_of(*parts)`."""
    return Generator().manual_seed(seed_of(*parts))


class Batches:
    """A sized, indexable epoch: shuffled once, each batch made on access.

    Args:
        count: Number of examples.
        size: Examples per batch; a last, smaller batch is dropped unless it is the only one.
        make: Converts indices `(size,)` and a generator into a batch.
        seed: Seed of the order and of every batch.
        order: Draws the examples of the epoch, int64 `(count,)`; None for a plain shuffle.
    """

    def __init__(self, count: int, size: int, make: Make, seed: int, order: Order | None = None) -> None:
        rng = make_generator(seed, "order")
        drawn = torch.randperm(count, generator=rng) if order is None else order(rng)
        # A smaller last batch would give its images more weight, and BatchNorm a poorer mean.
        full = drawn[: count // size * size] if count >= size else drawn
        self._indices = list(full.split(size))
        self._make, self._seed = make, seed

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, step: int) -> Any:
        return self._make(self._indices[step], make_generator(self._seed, step))

    def __iter__(self) -> Iterator[Any]:
        return (self[step] for step in range(len(self)))

    def shard(self, rank: int, world: int) -> "Batches":
        """Return the batches of one of `world` processes: its own part of every batch."""
        # Each process draws its own augmentation; a single one draws as without torchrun.
        part = Batches(0, 1, self._make, seed_of(self._seed, rank) if world > 1 else self._seed)
        # Every n-th: parts differ by one image at most.
        part._indices = [index[rank::world] for index in self._indices]
        return part

    def names(self, step: int, split: Split) -> list[str]:
        """Return the names of the examples of a batch, for error messages."""
        return [split.names[i] for i in self._indices[step].tolist()]


class Pixels:
    """Serve uint8 images `(N, T, T, 3)` in batches; resident on a GPU if they fit in 40 % of its free memory."""

    def __init__(self, array: NDArray[np.uint8] | JoinedArray, device: torch.device) -> None:
        self._array, self._device = array, device
        self._resident = _copy_to_gpu(array, device) if _fits_on_gpu(array, device) else None

    def __getitem__(self, index: Tensor) -> Tensor:
        if self._resident is not None:
            return self._resident[index.to(self._device)]
        return torch.from_numpy(self._array[index.numpy()]).to(self._device)


def _fits_on_gpu(array: NDArray[np.uint8] | JoinedArray, device: torch.device) -> bool:
    return device.type == "cuda" and array.nbytes <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]


def _copy_to_gpu(array: NDArray[np.uint8] | JoinedArray, device: torch.device) -> Tensor:
    """Copy an array in pieces; a memory-mapped one may be larger than the machine's memory."""
    resident = torch.empty(array.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(array), COPIED_ROWS):
        piece = array[start : start + COPIED_ROWS]
        resident[start : start + len(piece)] = torch.tensor(piece)
    return resident


def balanced_order(labels: Tensor, balance: float) -> Order | None:
    """Return the order that draws an epoch with `draw_balanced`; None, a plain shuffle, if `balance` is 0."""
    return partial(draw_balanced, labels, balance) if balance else None


def order_of(split: Split, labels: Tensor, balance: float, table_balance: float) -> Order | None:
    """Return the order of an epoch: that of `draw_tables` for several tables, else of `balanced_order`."""
    if split.tables is not None:
        return partial(draw_tables, torch.from_numpy(split.tables), table_balance)
    return balanced_order(labels, balance)


def make_batches(
    task: Task, size: int, settings: Augment, device: torch.device, balance: float = 0.0, table_balance: float = 0.0
) -> Callable[[int], Batches]:
    """Prepare the training split of a task; return a function from an epoch's seed to its batches.

    A batch is `(inputs, labels)`: images float32 `(B, 3, S, S)` or ids int64 `(B, n)`, of texts of like length; and
    labels int64 `(B,)`, or soft labels `(B, C)` under mixing. `balance` is passed to `draw_balanced`,
    `table_balance` to `draw_tables`.

    Raises:
        SettingsError: If augmentation is set and the examples are no images.
    """
    if not isinstance(task.input, Preprocess):
        return _make_plain_batches(task, size, settings, device, balance, table_balance)
    look, labels = make_views(task.train, task.input, settings, device), label_tensor(task.train.labels, task.output)

    if isinstance(task.output, TaskOutputs) and (settings.mixup or settings.cutmix):
        raise SettingsError("augment mixes the labels of one task, these are several", "leave out mixup and cutmix")

    def make(index: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
        return mix_images(look(index, rng), labels[index].to(device), len(task.classes), settings, rng)

    order = order_of(task.train, labels, balance, table_balance)
    return lambda seed: Batches(len(labels), size, make, seed, order)


def _make_plain_batches(
    task: Task, size: int, settings: Augment, device: torch.device, balance: float, table_balance: float
) -> Callable[[int], Batches]:
    """Prepare batches of examples as they are, without augmentation."""
    # What callers pass for images as they are means no augmentation of other examples either.
    if settings not in (Augment(), AS_THEY_ARE):
        raise SettingsError(f"augment has no effect on {task.input.unit}", "leave it out")
    rows, labels = task.train.rows, label_tensor(task.train.labels, task.output)

    def make(index: Tensor, _rng: Generator) -> tuple[Tensor, Tensor]:
        return input_tensor(rows[index.numpy()], task.input, device), labels[index].to(device)

    return draw_epochs(task, size, make, balance, table_balance)


def draw_epochs(
    task: Task, size: int, make: Make, balance: float = 0.0, table_balance: float = 0.0
) -> Callable[[int], Batches]:
    """Return a function from an epoch's seed to batches of a task's training rows; texts of like length together.

    Args:
        task: The task.
        size: Examples per batch.
        make: Converts indices `(size,)` and a generator into a batch.
        balance: Passed to `draw_balanced`.
        table_balance: Passed to `draw_tables`.
    """
    labels, rows = label_tensor(task.train.labels, task.output), task.train.rows
    order = order_of(task.train, labels, balance, table_balance)
    if isinstance(rows, Ragged):
        order = order_by_length(rows.lengths, size, order)
    return lambda seed: Batches(len(labels), size, make, seed, order)


def order_by_length(lengths: NDArray[np.int64], size: int, order: Order | None) -> Order:
    """Return the order whose successive batches hold rows of like length.

    Args:
        lengths: Length of each row `(N,)`.
        size: Rows of a batch.
        order: Draws the rows of an epoch, `(N,)`; None for a plain shuffle.
    """

    def draw(rng: Generator) -> Tensor:
        drawn = torch.randperm(len(lengths), generator=rng) if order is None else order(rng)
        batches = np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=rng)))
        return torch.from_numpy(np.concatenate(bucket_rows(drawn.numpy(), lengths, size, batches)))

    return draw


def make_views(split: Split, input: Input, settings: Augment, device: torch.device) -> Callable[..., Tensor]:
    """Prepare a split; return a function from indices and a generator to augmented images, float32 `(B, 3, S, S)`.

    Mixing needs labels and is not applied.
    """
    preprocess = require_images(input, "augmentation")
    use_canvas = settings.crop == "resized" and split.canvas is not None
    source = Pixels(split.canvas if use_canvas and split.canvas is not None else split.rows, device)
    aspect = torch.tensor(split.aspect) if use_canvas and split.aspect is not None else None

    def look(index: Tensor, rng: Generator) -> Tensor:
        pixels = augment(source[index], None if aspect is None else aspect[index], preprocess.size, settings, rng)
        return normalize(pixels, preprocess)

    return look
