"""Digits in two domains, and digits whose classes are new."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from effxfer.data.sources.builtin import load_digits
from effxfer.data.target import attach_target
from effxfer.data.task import Split, Task
from effxfer.net.net import Net
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.outputs.single_label import SingleLabel

PREPROCESS = Preprocess(size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
PLAIN = {"batch": 30, "augment": {"crop": "padded", "flip": False}}


def written(classes: range, start: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Some digits of each class, twice as large: uint8 `(N, 16, 16, 3)`, and labels from 0."""
    images, labels = load_digits()
    rows = np.concatenate([np.flatnonzero(labels == one)[start : start + count] for one in classes])
    large = images[rows].repeat(2, 1).repeat(2, 2)
    return large[..., None].repeat(3, 3), labels[rows] - classes.start


def coloured(pixels: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Light ink on paper of any darker colour, with noise."""
    rng = np.random.default_rng(seed)
    paper, ink = rng.integers(60, 140, (len(pixels), 1, 1, 3)), rng.integers(200, 256, (len(pixels), 1, 1, 3))
    share = pixels / 255
    noisy = paper * (1 - share) + ink * share + rng.normal(0, 15, pixels.shape)
    return noisy.clip(0, 255).astype(np.uint8)


def task_of(classes: range, change=lambda pixels, _seed: pixels) -> Task:
    """A task of digits: 60 of each class to learn from, 20 to choose by, 60 to report on."""

    def split(start: int, count: int) -> Split:
        pixels, labels = written(classes, start, count)
        return Split(rows=change(pixels, start), labels=labels, names=[str(i) for i in range(len(labels))])

    names = tuple(str(one) for one in classes)
    parts = {"train": split(0, 60), "val": split(60, 20), "test": split(80, 60)}
    return Task(name="digits", output=SingleLabel(classes=names), **parts, input=PREPROCESS, digest="d")


def two_domains() -> Task:
    """White digits on black, to be told apart on coloured paper."""
    return attach_target(task_of(range(10)), task_of(range(10), coloured))


def new_classes() -> Task:
    """Digits from 0 to 5 on paper of any colour, which tells nothing; those from 6 to 9 come later."""
    return attach_target(task_of(range(6), coloured), task_of(range(6, 10), coloured))


def scrambled(task: Task) -> Task:
    """The same task with other labels in its target."""
    assert task.target is not None
    rng = np.random.default_rng(0)
    parts = {name: getattr(task.target, name) for name in ("train", "val", "test")}
    mixed = {name: replace(one, labels=rng.permutation(one.labels)) for name, one in parts.items()}
    return replace(task, target=replace(task.target, **mixed))


def body() -> Net:
    torch.manual_seed(0)
    return Net({"source": "effxfer.net.conv4:conv4", "args": {"width": 16}}, PREPROCESS)
