"""Vectors made from attributes of their classes, as the image of an animal is made from what it has."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from effxfer.data.settings import DataSettings
from effxfer.data.target import attach_target
from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.runtime.vectors.vectors import Vectors
from tests.transfer.domains import vector_task

WIDTH, ATTRIBUTES = 48, 24


def described(known: int = 20, new: int = 5, each: int = 20, seed: int = 0, shuffled: bool = False) -> Task:
    """A task of known classes whose target are new ones; with `shuffled`, classes have each other's attributes."""
    rng = np.random.default_rng(seed)
    # Some attributes are rare, some frequent; none is the same for all known classes.
    present = rng.random((known + new, ATTRIBUTES)) < rng.uniform(0.25, 0.75, ATTRIBUTES)
    strength = (present * rng.uniform(0.6, 1.0, present.shape)).astype(np.float32)
    labels = np.arange((known + new) * each) % (known + new)
    mixed = (present - 0.5)[labels] @ rng.normal(size=(ATTRIBUTES, WIDTH)) / 2
    features = np.tanh(mixed + 0.7 * rng.normal(size=mixed.shape)).astype(np.float32)
    table = rng.permutation(strength) if shuffled else strength
    old = labels < known
    task = replace(vector_task(features[old], labels[old]), class_embeddings=table[:known])
    names = tuple(f"new {number}" for number in range(new))
    target = vector_task(features[~old], labels[~old] - known, task.input)
    target = replace(target, output=replace(target.output, classes=names))
    attached = attach_target(task, target)
    return replace(attached, target=replace(attached.target, class_embeddings=table[known:]))


def body(task: Task) -> Net:
    return Net({"source": "effxfer.net.mlp:mlp", "args": {"inputs": task.input.size}}, Vectors(size=task.input.size))


def write_files(folder: Path, seed: int = 0) -> DataSettings:
    """Write a described task as the guide names its files: known and new examples, and a row for each class."""
    given = described(seed=seed)
    assert given.target is not None
    names = [f"class {name}" for name in given.classes]
    parts = [(split, names) for split in (given.train, given.val, given.test)]
    new = [(split, given.target.classes) for split in (given.target.train, given.target.val, given.target.test)]
    for file, splits in (("animals.npz", parts), ("new-animals.npz", new)):
        features = np.concatenate([split.rows for split, _ in splits])
        labels = np.concatenate([np.array(classes)[split.labels] for split, classes in splits])
        np.savez(folder / file, features=features, labels=labels)
    rows = np.concatenate([given.class_embeddings, given.target.class_embeddings])
    lines = [",".join([name, *map(str, row)]) for name, row in zip([*names, *given.target.classes], rows, strict=True)]
    (folder / "attributes.csv").write_text("\n".join(lines))
    return DataSettings(
        source=str(folder / "animals.npz"), class_embeddings=str(folder / "attributes.csv"),
        target=DataSettings(source=str(folder / "new-animals.npz")),
    )  # fmt: skip
