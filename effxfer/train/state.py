"""Checkpoints of unfinished work: written atomically, checked on reading, removed when the work is done."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

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


class UnitFinished(BaseException):
    """The unit that this process is for is saved."""


class FanOut(Protocol):
    """Where independent units of work are computed side by side; units are paths below the work directory."""

    @property
    def unit(self) -> str:
        """The unit that this process is for; empty if it computes everything."""

    def run(self, units: Sequence[str]) -> None:
        """Compute units elsewhere and save them, as far as they succeed."""


class Work:
    """Directory of the intermediate results of a long computation.

    Args:
        path: The directory; None saves nothing.
        fan_out: Where independent units are computed side by side; None: one after the other, here.
        place: Path of this part below the work directory.
    """

    def __init__(self, path: Path | None, fan_out: FanOut | None = None, place: str = "") -> None:
        self.path, self.fan_out, self.place = path, fan_out, place

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
        return Work(self.path / name if self.path else None, self.fan_out, f"{self.place}{name}/")

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

    def prepare(self, units: Iterable[tuple[str, Callable[[], dict[str, Any]]]]) -> None:
        """Compute units that do not depend on each other side by side, if possible; `once` then loads them.

        Args:
            units: The arguments of `once` for each of them.

        Raises:
            UnitFinished: In the process of one of them, when it is saved.
        """
        if self.path is None or self.fan_out is None:
            return
        named = {f"{self.place}{name}": (name, compute) for name, compute in units}
        if self.fan_out.unit in named:
            self.once(*named[self.fan_out.unit])
            raise UnitFinished
        missing = [place for place, (name, _) in named.items() if not (self.path / f"{name}.pt").is_file()]
        if len(missing) > 1 and not self.fan_out.unit:
            self.fan_out.run(missing)

    def note(self, row: Mapping[str, Any]) -> None:
        """Add a line to `metrics.jsonl`."""
        if self.path:
            append_line(self.path / METRICS, row)
