"""One epoch of batches, each a function of (seed, step) alone, so that training can resume at any step."""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from effxfer.data.batches.augment import Augment, mix, normalize, vary
from effxfer.data.batches.resampling import resampled
from effxfer.data.task import Split, Task
from effxfer.runtime.images.preprocess import Preprocess

Make = Callable[[Tensor, Generator], Any]
Order = Callable[[Generator], Tensor]
RESIDENT_SHARE = 0.4
COPIED_ROWS = 1024


def seed_of(*parts: object) -> int:
    """Derive an independent seed in [0, 2^63) from whatever names it."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def generator(*parts: object) -> Generator:
    """Give a CPU generator seeded with `seed_of(*parts)`."""
    return Generator().manual_seed(seed_of(*parts))


class Batches:
    """A sized, indexable epoch: shuffled once, each batch made when it is asked for.

    Args:
        count: How many examples there are.
        size: Examples per batch; a last, smaller batch is left out unless it is the only one.
        make: Turns indices `(size,)` and a generator into a batch.
        seed: Of the order and of every batch.
        order: Draws the examples of the epoch, int64 `(count,)`; None shuffles them.
    """

    def __init__(self, count: int, size: int, make: Make, seed: int, order: Order | None = None) -> None:
        rng = generator(seed, "order")
        drawn = torch.randperm(count, generator=rng) if order is None else order(rng)
        whole = drawn[: count // size * size] if count >= size else drawn
        self._indices = list(whole.split(size))
        self._make, self._seed = make, seed

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, step: int) -> Any:
        return self._make(self._indices[step], generator(self._seed, step))

    def __iter__(self) -> Iterator[Any]:
        return (self[step] for step in range(len(self)))

    def shard(self, rank: int, world: int) -> "Batches":
        """Give each of `world` processes its own part of every batch."""
        part = Batches(0, 1, self._make, seed_of(self._seed, rank) if world > 1 else self._seed)
        part._indices = [index[rank::world] for index in self._indices]
        return part

    def names(self, step: int, split: Split) -> list[str]:
        """Name the examples of a batch, for an error message."""
        return [split.names[i] for i in self._indices[step].tolist()]


class Pixels:
    """uint8 images `(N, T, T, 3)` that give batches on a device; on a GPU they stay there, if they leave it room."""

    def __init__(self, array: NDArray[np.uint8], device: torch.device) -> None:
        self._array, self._device = array, device
        self._resident = _on_gpu(array, device) if _leaves_room(array, device) else None

    def __getitem__(self, index: Tensor) -> Tensor:
        if self._resident is not None:
            return self._resident[index.to(self._device)]
        return torch.from_numpy(self._array[index.numpy()]).to(self._device)


def _leaves_room(array: NDArray[np.uint8], device: torch.device) -> bool:
    return device.type == "cuda" and array.nbytes <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]


def _on_gpu(array: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Copy piece by piece: the array may be a file larger than the machine's memory."""
    there = torch.empty(array.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(array), COPIED_ROWS):
        piece = array[start : start + COPIED_ROWS]
        there[start : start + len(piece)] = torch.tensor(piece)
    return there


def order_of(labels: Tensor, balance: float) -> Order | None:
    """Give the order of an epoch's examples, as `resampled` draws it; a plain shuffle if `balance` is 0."""
    return partial(resampled, labels, balance) if balance else None


def images(task: Task, size: int, how: Augment, device: torch.device, balance: float = 0.0) -> Callable[[int], Batches]:
    """Prepare the training split of a task once; what comes back makes an epoch of batches from its seed.

    A batch is `(images, labels)`: float32 `(B, 3, S, S)` and int64 `(B,)`, or soft labels `(B, C)` under mixing.
    `balance` is that of `resampled`.
    """
    look, labels = views(task.train, task.preprocess, how, device), torch.tensor(task.train.labels)

    def make(index: Tensor, rng: Generator) -> tuple[Tensor, Tensor]:
        return mix(look(index, rng), labels[index].to(device), len(task.classes), how, rng)

    order = order_of(labels, balance)
    return lambda seed: Batches(len(labels), size, make, seed, order)


def views(split: Split, preprocess: Preprocess, how: Augment, device: torch.device) -> Callable[..., Tensor]:
    """Prepare a split once; what comes back makes varied images, float32 `(B, 3, S, S)`, from indices and a generator.

    Mixing, which needs labels, is left out.
    """
    use_canvas = how.crop == "resized" and split.canvas is not None
    source = Pixels(split.canvas if use_canvas and split.canvas is not None else split.pixels, device)
    aspect = torch.tensor(split.aspect) if use_canvas and split.aspect is not None else None

    def look(index: Tensor, rng: Generator) -> Tensor:
        pixels = vary(source[index], None if aspect is None else aspect[index], preprocess.size, how, rng)
        return normalize(pixels, preprocess)

    return look
