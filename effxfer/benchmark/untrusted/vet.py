"""Vet an ONNX file that effxfer did not write: open it in a child process with limits on time and memory.

Malformed models can crash the runtime, exhaust the memory, or refer to files that are not theirs. `vet` parses the
model, checks its external data and runs it once. It gives no guarantee for a file that is replaced afterwards.
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
# 2 GB: protobuf's own limit. 1 MB of sums: some 10,000 files.
LARGEST, LARGEST_SUMS = 2**31, 2**20
MEMORY_GB = 4.0  # chosen: address space, of which Python with ONNX Runtime takes 0.2 GB (measured)
SECONDS = 60.0  # chosen: a network of seconds a call still passes


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """Summary of a model, read by a child process.

    Attributes:
        inputs: Type and shape by name, such as `["tensor(float)", ["batch", 3, 224, 224]]`.
        outputs: Type and shape by name.
        opsets: Version of each operator set by its domain.
        operators: Number of nodes in the main graph.
        producer: Name and version of the program that wrote it, by its own account.
        outside_bytes: Bytes of weights in files beside it.
        metadata: Its metadata properties.
    """

    inputs: Mapping[str, list[Any]]
    outputs: Mapping[str, list[Any]]
    opsets: Mapping[str, int]
    operators: int
    producer: str
    outside_bytes: int
    metadata: Mapping[str, str]


def vet(file: Path, *, size: int | None = None, memory_gb: float = MEMORY_GB, seconds: float = SECONDS) -> ModelSummary:
    """Open a file of unknown origin in a child process and run it once on zeros.

    Args:
        file: The model. Weights in other files must lie beside it.
        size: Value of free sides other than the batch; None uses that of its preprocessing metadata, else 224.
        memory_gb: Address space of the child, in addition to four times the size of file and weights. Not every system
            can limit it; time is limited everywhere.
        seconds: Limit of the child's wall-clock and processor time.

    Raises:
        ModelFileError: `E420` weights outside its folder, behind a link, or hard-linked; `E421` unknown fields of
            external data; `E422` tensors whose data are too short, too long or at an invalid offset; `E423` missing
            weights; `E424` no ONNX model, or a damaged one; `E425` NaN among the weights; `E426` operators that ONNX
            Runtime does not know; `E427` a file that crashes, hangs, takes too much memory or does not run.
    """
    if not file.is_file():
        raise ModelFileError(f"no model file {file}", "write one with `effxfer export`", code="E424")
    bytes_ = file.stat().st_size
    if not 0 < bytes_ < LARGEST:
        problem = f"{file} is no ONNX model: it has {bytes_} bytes"
        raise ModelFileError(
            problem, "a model has less than 2 GB; store larger weights in a file beside it", code="E424"
        )
    request = {
        "file": str(file.absolute()),
        "memory": int(memory_gb * 1e9) + 4 * bytes_,
        "seconds": max(1, int(seconds)),
    }
    response = _run_child({**request, "size": size}, file, seconds)
    if "error" in response:
        code, problem, hint = response["error"]
        raise ModelFileError(f"{file}: {problem}", hint, code=code)
    return ModelSummary(**response)


def locate(model: Path, names: Sequence[str] = ("model.onnx",)) -> Path:
    """Return the model file at a path or in a directory.

    Args:
        model: A file; a result directory, which is checked as a whole; or any other directory.
        names: File names to look for in a directory, the preferred one first.

    Raises:
        ModelFileError: If a result was changed since it was written (`E404`), or holds no exported model.
    """
    if not model.is_dir():
        return model
    if (model / MANIFEST).exists():
        names_in_directory = Artifact.load(model).manifest.files
        if not any(name in names_in_directory for name in names):
            raise ModelFileError(f"{model} holds no exported model", "make one with `effxfer export`")
    else:
        names_in_directory = {name: "" for name in names if (model / name).is_file()}
    return model / next((name for name in names if name in names_in_directory), names[0])


def is_untrusted(file: Path) -> bool:
    """Whether no manifest beside a file lists it, so it belongs to no result, or it was changed after it was sealed.

    A manifest protects against mix-ups and is no signature: use only results of people you trust.

    Raises:
        ModelFileError: If a manifest or `SHA256SUMS` beside it lists it with another digest (`E404`).
    """
    manifest, bundle = _manifest_digests(file.parent), _bundle_digests(file.parent)
    expected = manifest.get(file.name) or bundle.get(file.name)
    if expected and file.is_file() and (actual := sha256(file)) != expected:
        listing = file.with_name(MANIFEST if file.name in manifest else SUMS)
        text = f"{file} is not the file that {listing} lists: SHA-256 is {actual[:12]}, not {str(expected)[:12]}"
        raise ModelFileError(text, "restore it, or copy it away from there", code="E404")
    return bool(seal_fault(file)) or file.name not in manifest


def has_valid_seal(file: Path) -> bool:
    """Whether a file has a seal, the digest in its own metadata.

    Raises:
        ModelFileError: If it was changed after it was sealed (`E404`).
    """
    try:
        return file.is_file() and is_sealed(read_model(file), file)
    except ModelError as error:
        raise ModelFileError(error.problem, error.hint, code=error.code) from None


def seal_fault(file: Path) -> str:
    """Return how a file differs from what was sealed; empty if its seal is intact, or it has none.

    Other tools that rewrite an exported file, such as ONNX Runtime's quantizer, keep the metadata that the seal is in.
    """
    try:
        has_valid_seal(file)
    except ModelFileError as error:
        if error.code != "E404":
            raise
        return error.problem
    return ""


def note_unverified(files: Iterable[Path]) -> tuple[str, ...]:
    """Return a note per file that neither a manifest, a list of digests nor an intact seal verifies."""
    notes = []
    for file in files:
        if fault := seal_fault(file):
            notes.append(f"{fault}; it was measured as a file of unknown origin")
        elif not has_valid_seal(file) and file.name not in {
            **_manifest_digests(file.parent),
            **_bundle_digests(file.parent),
        }:
            notes.append(f"nothing vouches for {file}: no list of digests names it, and it has no seal")
    return tuple(notes)


def _manifest_digests(folder: Path) -> Mapping[str, str]:
    """Return the digests of a result's manifest; empty if there is none."""
    try:
        listed: Mapping[str, str] = read_manifest(folder)["files"]
    except ModelFileError:
        return {}
    return listed


def _bundle_digests(folder: Path) -> Mapping[str, str]:
    """Return the digests of a bundle's `SHA256SUMS`; empty if there is none that can be read."""
    try:
        lines = read_regular(folder / SUMS, LARGEST_SUMS).decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _run_child(request: Mapping[str, Any], file: Path, seconds: float) -> dict[str, Any]:
    try:
        process = children.run(CHILD, json.dumps(request), seconds=seconds)
    except subprocess.TimeoutExpired:
        raise ModelFileError(f"{file} did not open within {seconds:.0f} s", "do not use it", code="E427") from None
    try:
        response: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise ModelFileError(
            f"opening {file} ended the process: {exit_reason(process)}", "do not use it", code="E427"
        ) from None
    return response


def exit_reason(process: "subprocess.CompletedProcess[str]") -> str:
    """Return what ended a child: a signal, or the last line of its standard error."""
    if process.returncode < 0:
        return f"signal {-process.returncode}"
    return (process.stderr.strip().splitlines() or [f"exit status {process.returncode}"])[-1][:200]
