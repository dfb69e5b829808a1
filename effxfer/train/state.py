"""Checkpoints of unfinished work: written atomically, checked on reading, removed when the work is done."""

import hashlib
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from effxfer import progress
from effxfer.files import append_line, write_atomic
from effxfer.train.settings import METRICS, RESULT

DIGEST_BYTES = 32  # of SHA-256


def save(file: Path, state: Mapping[str, Any]) -> None:
    """Replace a checkpoint; `state` holds tensors, numbers, strings, lists and dicts.

    The file begins with the digest of the rest, so that both are replaced in one step.
    """
    stream = BytesIO()
    torch.save(dict(state), stream)
    # A view, not a copy: weights and optimizer state may take gigabytes.
    body = stream.getbuffer()

    def write(scratch: Path) -> None:
        with scratch.open("wb") as out:
            out.write(hashlib.sha256(body).digest())
            out.write(body)

    write_atomic(file, write)


def load(file: Path) -> dict[str, Any] | None:
    """Read a checkpoint; None if there is none, or if it is damaged, which is reported."""
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        witness, body = stream.read(DIGEST_BYTES), stream.read()
    # Before torch reads it: a flipped bit in a weight loads without a word.
    if hashlib.sha256(body).digest() != witness:
        progress.remark(f"{file} is damaged: that part is done again")
        return None
    # Said explicitly: without the argument, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 lets a pickle run code.
    state: dict[str, Any] = torch.load(BytesIO(body), map_location="cpu", weights_only=True)
    return state


def clone(module: nn.Module) -> dict[str, Tensor]:
    """Copy a module's parameters and buffers."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


class Work:
    """Directory of the intermediate results of a long computation.

    Args:
        path: The directory; None saves nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    @property
    def result(self) -> Path | None:
        """Folder of the files to move into the result; None if nothing is saved."""
        return self.file(RESULT)

    @property
    def key(self) -> str:
        """Key of the result of this work; empty if nothing is saved."""
        return self.path.name.removeprefix("key-") if self.path else ""

    def part(self, name: str) -> "Work":
        """Return a subdirectory for a part of the computation."""
        return Work(self.path / name if self.path else None)

    def file(self, name: str) -> Path | None:
        """Return the path of a file in this directory; None if nothing is saved."""
        return self.path / name if self.path else None

    def once(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Compute a unit of work, or load its saved result.

        Args:
            name: Name of the unit, unique within this directory.
            compute: Returns a dictionary of tensors, numbers, strings, lists and dicts.
        """
        if self.path is None:
            return compute()
        file = self.path / f"{name}.pt"
        value = load(file)
        if value is None:
            value = compute()
            save(file, value)
        return value

    def note(self, row: Mapping[str, Any]) -> None:
        """Add a line to `metrics.jsonl`."""
        if self.path:
            append_line(self.path / METRICS, row)
