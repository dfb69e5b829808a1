"""Write ONNX models: one file, or above protobuf's limit of 2 GB a second file with the weights."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from effxfer.errors import ModelFileError
from effxfer.files import PARTIAL, write_atomic
from effxfer.runtime.model_file.seal import add_seal

if TYPE_CHECKING:
    import onnx

# protobuf's 2 GB for the whole message; a megabyte is left to the graph.
LIMIT = 2**31 - 2**20
SMALL = 1024  # bytes; onnx's own default: biases stay in the model


def write_model(model: "onnx.ModelProto", file: Path) -> Path:
    """Check a model and write it with a seal; more than 2 GB of weights go into `FILE.data` next to it.

    Args:
        model: Model with its weights inside, or in a file that is already next to `file`.
        file: Replaced only by a complete model.

    Raises:
        ModelFileError: If the graph is invalid (E426); an older file is intact.
        ResourceError: If the disk is full; an older file is intact.
    """
    size = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if size > LIMIT:
        return _write_two(model, file)
    apart = any(tensor.external_data for tensor in model.graph.initializer)
    aside = weights_of(file)
    write_atomic(file, lambda scratch: _write_checked(model, scratch, aside if apart else None))
    # After the model: until then, the old one needs its weights.
    if not apart:
        aside.unlink(missing_ok=True)
    return file


def write_sealed(file: Path, content: bytes) -> Path:
    """Write a serialized model with its weights and a seal; a complete file replaces the old one."""
    return write_atomic(file, add_seal(content))


def weights_of(file: Path) -> Path:
    """Return the path of the file with the weights of a model above 2 GB."""
    return file.with_name(f"{file.name}.data")


def _write_two(model: "onnx.ModelProto", file: Path) -> Path:
    """Write the weights first: until the model is replaced, nothing refers to them."""
    import onnx

    aside = weights_of(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{PARTIAL}{os.getpid()}-weights-", dir=file.parent) as folder:
        written = Path(folder) / file.name
        onnx.save_model(model, written, save_as_external_data=True, location=aside.name, size_threshold=SMALL)
        _check(written)
        # The seal covers both, so that a model never vouches for weights of another export.
        content = add_seal(written.read_bytes(), written.with_name(aside.name))
        write_atomic(aside, lambda scratch: written.with_name(aside.name).replace(scratch))
        return write_atomic(file, content)


def _write_checked(model: "onnx.ModelProto", scratch: Path, weights: Path | None) -> None:
    scratch.write_bytes(add_seal(model.SerializeToString(), weights))
    _check(scratch)


def _check(file: Path) -> None:
    import onnx

    try:
        # By path: in memory, the checker does not find weights beside the file.
        onnx.checker.check_model(file, full_check=True)
    except Exception as error:  # onnx raises ValidationError, InferenceError, and protobuf's own types
        raise ModelFileError(f"the exporter wrote an invalid graph: {error}", code="E426") from error
