"""Batches of pairs of images and captions.

Shape legend: B batch, N images, M different captions, D features.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import Batches, make_views
from effxfer.data.batches.collate import input_tensor
from effxfer.data.task import Task
from effxfer.errors import DataError
from effxfer.net.net import Net
from effxfer.transfer.image_text.dual_encoder import Pairs

Look = Callable[[Tensor, Generator], Tensor]


def draw_pairs(
    images: Look, texts: Look, captions: Sequence[Sequence[int]], size: int, device: torch.device
) -> Callable[[int], Batches]:
    """Return a function from an epoch's seed to its batches: each image once, with one of its captions.

    Args:
        images: Function from places of images and a generator to what the learner takes of them.
        texts: The same of captions.
        captions: Places of each image's captions, N.
        size: Pairs of a batch.
        device: Where batches go.
    """
    longest = max(map(len, captions))
    # The captions of an image over and over, so that one drawn number serves all of them.
    counts = torch.tensor([len(own) for own in captions])
    places = torch.tensor([list(own) + [own[0]] * (longest - len(own)) for own in captions])

    def make(index: Tensor, rng: Generator) -> Pairs:
        drawn = (torch.rand(len(index), generator=rng) * counts[index]).long()
        chosen = places[index, drawn]
        return Pairs(images(index, rng), texts(chosen, rng), chosen.to(device))

    return lambda seed: Batches(len(captions), size, make, seed)


def look_up(features: Tensor, device: torch.device) -> Look:
    """Return what looks up stored features `(N, D)`."""
    resident = features.to(device)
    return lambda index, _rng: resident[index.to(device)]


def look_at_images(task: Task, augment: Augment, device: torch.device) -> Look:
    """Return what makes augmented training images, float32 `(B, 3, S, S)`."""
    return make_views(task.train, task.input, augment, device)


def read_texts(net: Net, rows: Any, device: torch.device) -> Look:
    """Return what pads ids of captions: int64 `(B, n)`."""
    return lambda index, _rng: input_tensor(rows[index.numpy()], net.input, device)


def require_pairs(captions: Sequence[Sequence[int]], name: str) -> None:
    """Refuse training pairs that teach nothing.

    Raises:
        DataError: `E347` if all training images have the same caption.
    """
    if len({place for own in captions for place in own}) < 2:
        text = f"{name} has {len(captions)} training pairs of one caption: there is nothing to tell apart"
        raise DataError(text, "give pairs with different captions", code="E347")


def shuffle_captions(captions: Sequence[tuple[int, ...]], seed: int) -> list[tuple[int, ...]]:
    """Mix the captions of images up."""
    return [captions[place] for place in np.random.default_rng(seed).permutation(len(captions))]
