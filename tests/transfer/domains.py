"""Digits in two domains, digits whose classes are new, and vectors in two domains."""

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
from effxfer.runtime.vectors.vectors import Vectors

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


def vector_task(features: NDArray[np.float32], labels: NDArray[np.int64], input: Vectors | None = None) -> Task:
    """A task of vectors: of five examples, three are trained on, one is for validation and one for testing."""
    places = np.arange(len(labels)) % 5

    def split(chosen: NDArray[np.bool_]) -> Split:
        names = [str(i) for i in np.flatnonzero(chosen)]
        return Split(rows=features[chosen].astype(np.float32), labels=labels[chosen], names=names)

    parts = {"train": split(places < 3), "val": split(places == 3), "test": split(places == 4)}
    input = input or Vectors(size=features.shape[1], standardize=True).fit(parts["train"].rows)
    names = tuple(str(one) for one in range(int(labels.max()) + 1))
    return Task(name="vectors", output=SingleLabel(classes=names), **parts, input=input, digest="v")


def clusters(count: int, seed: int, width: int = 8, classes: int = 4) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Examples around a mean for each class."""
    means = 2.5 * np.random.default_rng(1).normal(size=(classes, width))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    return (means[labels] + rng.normal(size=(count, width))).astype(np.float32), labels


def moved_vectors(count: int = 600, scale: float = 0.5, shift: float = 2.0) -> Task:
    """Clusters; in the target, each column has another scale and another mean."""
    source, target = clusters(count, 0), clusters(count, 1)
    rng = np.random.default_rng(2)
    scales, shifts = np.exp(scale * rng.normal(size=8)), shift * rng.normal(size=8)
    task = vector_task(*source)
    return attach_target(task, vector_task((target[0] * scales + shifts).astype(np.float32), target[1], task.input))


def vector_body(hidden: tuple[int, ...] = (32, 16), **args: object) -> Net:
    torch.manual_seed(0)
    given = {"inputs": 8, "hidden": list(hidden), **args}
    return Net({"source": "effxfer.net.mlp:mlp", "args": given}, Vectors(size=int(str(given["inputs"]))))


def covariate_shift(count: int = 900) -> Task:
    """Two classes, inside and outside of a stripe; the target knows one side of it only."""

    def domain(mean: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        features = np.random.default_rng(seed).normal((mean, 0), size=(count, 2)).astype(np.float32)
        return features, (np.abs(features[:, 0]) > 1).astype(np.int64)

    task = vector_task(*domain(0.0, 0))
    return attach_target(task, vector_task(*domain(1.5, 1), task.input))
