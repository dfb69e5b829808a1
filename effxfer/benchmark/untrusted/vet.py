"""An ONNX file that effxfer did not write is opened in a process of its own first, with limits on time and memory.

Malformed models can crash the runtime, take all memory, or name weights in files that are none of theirs. What comes
through `vet` was parsed, had its outside data checked, and ran once; nothing is promised of a file that is replaced
afterwards.
"""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effxfer.artifact import MANIFEST, Artifact, read_manifest
from effxfer.errors import ModelFileError
from effxfer.files import sha256
from effxfer.process import children
from effxfer.runtime.model_file.metadata import ModelError
from effxfer.runtime.model_file.seal import is_sealed, read_model
from effxfer.runtime.reading import read_regular

SUMS = "SHA256SUMS"
CHILD = Path(__file__).with_name("vet_child.py")
LARGEST, LARGEST_SUMS = 2**31, 2**20
MEMORY_GB = 4.0
SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """What a file holds, as a child process saw it.

    Attributes:
        inputs: Type and shape by name, such as `["tensor(float)", ["batch", 3, 224, 224]]`.
        outputs: The same.
        opsets: Version of each operator set by its domain.
        operators: Nodes in the main graph.
        producer: Name and version of what wrote it, as it says.
        outside_bytes: Of weights in files beside it.
        metadata: Its own properties.
    """

    inputs: Mapping[str, list[Any]]
    outputs: Mapping[str, list[Any]]
    opsets: Mapping[str, int]
    operators: int
    producer: str
    outside_bytes: int
    metadata: Mapping[str, str]


def vet(file: Path, *, size: int | None = None, memory_gb: float = MEMORY_GB, seconds: float = SECONDS) -> Foreign:
    """Open a file of unknown origin in a child process and run it once on zeros.

    Args:
        file: The model. Weights in other files must lie beside it.
        size: Value of free sides other than the batch; None for what its preprocessing metadata state, else 224.
        memory_gb: Address space that the child may take, beyond four times what file and weights take. Not every
            system can bound it; time is bounded everywhere.
        seconds: The child's time, of the clock and of the processor.

    Raises:
        ModelFileError: `E420` weights outside its folder, behind a link, or hard-linked; `E421` unknown fields of
            external data; `E422` tensors whose data are too short, too long or at an impossible place; `E423` missing
            weights; `E424` no ONNX model, or a damaged one; `E425` NaN among the weights; `E426` operators that ONNX
            Runtime does not know; `E427` a file that crashes, hangs, takes too much memory or does not run.
    """
    if not file.is_file():
        raise ModelFileError(f"no model file {file}", "write one with `effxfer export`", code="E424")
    bytes_ = file.stat().st_size
    if not 0 < bytes_ < LARGEST:
        problem = f"{file} is no ONNX model: it holds {bytes_} bytes"
        raise ModelFileError(problem, "a model takes less than 2 GB, its weights may lie beside it", code="E424")
    ask = {"file": str(file.absolute()), "memory": int(memory_gb * 1e9) + 4 * bytes_, "seconds": max(1, int(seconds))}
    found = _asked({**ask, "size": size}, file, seconds)
    if "error" in found:
        code, problem, hint = found["error"]
        raise ModelFileError(f"{file}: {problem}", hint, code=code)
    return Foreign(**found)


def locate(model: Path, names: Sequence[str] = ("model.onnx",)) -> Path:
    """Give the file that is meant by a path to it, or to the directory that holds it.

    Args:
        model: A file; or a result, which is then checked as a whole; or a directory of any other kind.
        names: What is looked for in a directory, the preferred one first.

    Raises:
        ModelFileError: If a result was changed since it was written (`E404`), or holds no exported model.
    """
    if not model.is_dir():
        return model
    if (model / MANIFEST).exists():
        there = Artifact.load(model).manifest.files
        if not any(name in there for name in names):
            raise ModelFileError(f"{model} holds no exported model", "make one with `effxfer export`")
    else:
        there = {name: "" for name in names if (model / name).is_file()}
    return model / next((name for name in names if name in there), names[0])


def is_foreign(file: Path) -> bool:
    """Whether a file is in no result: no manifest beside it lists it.

    A manifest is a seal against mix-ups, not a signature: take results only from people you trust.

    Raises:
        ModelFileError: If a manifest or `SHA256SUMS` beside it lists it with another digest, or it was changed since
            it was given a seal (`E404`).
    """
    listed, sums = _listed(file.parent), _sums(file.parent)
    told = listed.get(file.name) or sums.get(file.name)
    if told and file.is_file() and (actual := sha256(file)) != told:
        where = file.with_name(MANIFEST if file.name in listed else SUMS)
        text = f"{file} is not the file that {where} lists: SHA-256 is {actual[:12]}, not {str(told)[:12]}"
        raise ModelFileError(text, "restore it, or copy it away from there", code="E404")
    has_seal(file)
    return file.name not in listed


def has_seal(file: Path) -> bool:
    """Whether a file vouches for itself.

    Raises:
        ModelFileError: If it was changed since it was given a seal (`E404`).
    """
    try:
        return file.is_file() and is_sealed(read_model(file), file)
    except ModelError as error:
        raise ModelFileError(error.problem, error.hint, code=error.code) from None


def unvouched(files: Iterable[Path]) -> tuple[str, ...]:
    """Name, in notes, the files that nothing vouches for: no manifest, no list of digests, no seal."""
    return tuple(
        f"nothing vouches for {file}: no list of digests names it, and it carries none of its own"
        for file in files
        if not has_seal(file) and file.name not in {**_listed(file.parent), **_sums(file.parent)}
    )


def _listed(folder: Path) -> Mapping[str, str]:
    """Give the digests that a result's manifest lists; nothing if there is no result."""
    try:
        listed: Mapping[str, str] = read_manifest(folder)["files"]
    except ModelFileError:
        return {}
    return listed


def _sums(folder: Path) -> Mapping[str, str]:
    """Give the digests that a bundle lists; nothing if there is no bundle, or what it has there is no list."""
    try:
        lines = read_regular(folder / SUMS, LARGEST_SUMS).decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _asked(ask: Mapping[str, Any], file: Path, seconds: float) -> dict[str, Any]:
    try:
        done = children.run(CHILD, json.dumps(ask), seconds=seconds)
    except subprocess.TimeoutExpired:
        raise ModelFileError(f"{file} was not open after {seconds:.0f} s", "do not use it", code="E427") from None
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise ModelFileError(
            f"opening {file} ended the process: {last_words(done)}", "do not use it", code="E427"
        ) from None
    return found


def last_words(done: "subprocess.CompletedProcess[str]") -> str:
    """Say what ended a child: a signal, or the last line that it wrote to standard error."""
    if done.returncode < 0:
        return f"signal {-done.returncode}"
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:200]
