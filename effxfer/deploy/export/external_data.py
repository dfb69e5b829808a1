"""Writing ONNX models: in one file, or, only where protobuf's limit of 2 GB asks for it, with the weights beside it."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from effxfer.errors import ModelFileError
from effxfer.files import PARTIAL, write_atomic
from effxfer.runtime.model_file.seal import add_seal

if TYPE_CHECKING:
    import onnx

LIMIT = 2**31 - 2**20
SMALL = 1024


def write_model(model: "onnx.ModelProto", file: Path) -> Path:
    """Check a model and write it with a seal; above 2 GB of weights they go into `FILE.data` beside it.

    Args:
        model: With its weights inside, or in a file that lies beside `file` already.
        file: Replaced only by a complete model.

    Raises:
        ModelFileError: If the graph is invalid (E426); an older file is intact.
        ResourceError: If the disk is full; an older file is intact.
    """
    held = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if held > LIMIT:
        return _write_two(model, file)
    apart = any(tensor.external_data for tensor in model.graph.initializer)
    aside = weights_of(file)
    write_atomic(file, lambda scratch: _write_checked(model, scratch, aside if apart else None))
    if not apart:
        aside.unlink(missing_ok=True)
    return file


def write_sealed(file: Path, content: bytes) -> Path:
    """Write a serialized model, its weights inside, with a seal; replaced only by a complete file."""
    return write_atomic(file, add_seal(content))


def weights_of(file: Path) -> Path:
    """Name the file that holds a model's weights if the model is too large for them."""
    return file.with_name(f"{file.name}.data")


def _write_two(model: "onnx.ModelProto", file: Path) -> Path:
    """Write the weights first: until the model is replaced, nothing refers to them."""
    import onnx

    aside = weights_of(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{PARTIAL}{os.getpid()}-weights-", dir=file.parent) as folder:
        made = Path(folder) / file.name
        onnx.save_model(model, made, save_as_external_data=True, location=aside.name, size_threshold=SMALL)
        _check(made)
        content = add_seal(made.read_bytes(), made.with_name(aside.name))
        write_atomic(aside, lambda scratch: made.with_name(aside.name).replace(scratch))
        return write_atomic(file, content)


def _write_checked(model: "onnx.ModelProto", scratch: Path, weights: Path | None) -> None:
    scratch.write_bytes(add_seal(model.SerializeToString(), weights))
    _check(scratch)


def _check(file: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(file, full_check=True)
    except Exception as error:
        raise ModelFileError(f"the exporter wrote an invalid graph: {error}", code="E426") from error
