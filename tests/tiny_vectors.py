"""A tiny network that reads vectors, and files of them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from effxfer.net.heads.head_edits import set_head
from effxfer.net.net import Net
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.vectors.vectors import Vectors

WIDTH = 6
CLASSES = ("ant", "bee", "cat")


def vectors(count: int, seed: int = 0, shift: float = 0.0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors `(count, 6)` in units of their own, around a mean for each of three classes."""
    centres = 3 * np.random.default_rng(99).normal(size=(len(CLASSES), WIDTH))
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    units = np.array([1, 10, 0.1, 1000, 1, 1])
    return ((centres[labels] + rng.normal(size=(count, WIDTH)) + shift) * units).astype(np.float32), labels


def write_npz(file: Path, count: int = 90, seed: int = 0, shift: float = 0.0, **arrays: Any) -> Path:
    """A file of vectors with class names as labels; `arrays` replace its arrays, None leaves one out."""
    features, labels = vectors(count, seed, shift)
    content = {"features": features, "labels": np.array(CLASSES)[labels]} | arrays
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **{name: array for name, array in content.items() if array is not None})
    return file


def vector_input() -> Vectors:
    """The input of the vectors above, standardised."""
    return Vectors(size=WIDTH, standardize=True).fit(vectors(300)[0])


def vector_net(output: Output | None = None, seed: int = 0, **args: Any) -> Net:
    """A network of two hidden layers."""
    torch.manual_seed(seed)
    arguments = {"inputs": WIDTH, "hidden": [16, 8], **args}
    net = Net({"source": "effxfer.net.mlp:mlp", "args": arguments}, vector_input())
    width = arguments["hidden"][-1] if arguments["hidden"] else WIDTH
    classes = output.classes if output else CLASSES
    set_head(net, spec={}, features=width, classes=classes, output=output.to_json() if output else None)
    return net.eval()
