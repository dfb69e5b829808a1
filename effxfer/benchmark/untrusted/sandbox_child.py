"""Child process of `call_in_sandbox`: set limits, inspect the files, call the function, write its result.

An error is written as `{"error": [class, code, problem, hint]}`; the parent reports crashes and time-outs.
"""

import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from effxfer.benchmark.untrusted.vet_child import OUT_OF_MEMORY, RefusedError, inspect_model, limit
from effxfer.errors import EffxferError
from effxfer.runtime.images.preprocess import ImageError
from effxfer.runtime.model_file.metadata import ModelError
from effxfer.runtime.session import error_summary
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.vectors.vector_error import VectorError

LARGEST_FILE = 2**31  # a file that the child writes, such as a profile
MODEL = "ModelFileError"


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{"answer": ...}` or `{"error": ...}`; other exceptions are defects of effxfer and are raised."""
    files, memory, vetted = list(request["files"]), request["memory"], list[str]()
    try:
        for file in files:
            vetted[:] = [file]
            memory += 4 * inspect_model(Path(file), memory, 0, request["size"])["outside_bytes"]
        vetted[:] = files
        # No limit of processor time here: with one, Linux reads that clock to milliseconds
        # (see `limit`); the parent waits.
        limit(memory + request["more"], 0, LARGEST_FILE)
        return {"answer": _import_function(request["function"])(**request["arguments"])}
    except Exception as error:  # `_error_fields` raises again what no file can cause
        return {"error": _error_fields(error, " and ".join(vetted), request["memory"] / 1e9)}


def _error_fields(error: Exception, files: str, memory: float) -> list[str]:
    """Return class, code, problem and hint of an exception that was raised while files were used."""
    if isinstance(error, MemoryError) or any(word in str(error) for word in OUT_OF_MEMORY):
        advice = "do not use it; if you trust it and it is large, set EFFXFER_FOREIGN_GB higher"
        return [MODEL, "E427", f"{files} takes more than {memory:.1f} GB of memory", advice]
    if isinstance(error, RecursionError):
        return [MODEL, "E424", f"{files}: not an ONNX model: nested too deeply", ""]
    if isinstance(error, RefusedError):
        code, problem, hint = error.args
        return [MODEL, code, f"{files}: {problem}", hint]
    if isinstance(error, EffxferError | ModelError | ImageError | TextError | VectorError):
        return [type(error).__name__, error.code, error.problem, error.hint]
    if type(error).__module__.startswith("onnxruntime"):
        return [MODEL, "E427", f"ONNX Runtime cannot run {files}: {error_summary(error)}", "do not use it"]
    raise error


def _import_function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    if not module.startswith("effxfer."):
        raise ValueError(name)
    imported: Callable[..., Any] = getattr(import_module(module), function)
    return imported


def main() -> None:
    """Read the request from the first file and write the response to the second."""
    request: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    response = answer(request)
    # More than before: an answer must be written even where memory was what ran out.
    limit(2 * request["memory"] + request["more"], 0, LARGEST_FILE)
    Path(sys.argv[2]).write_text(json.dumps(response), encoding="utf-8")


if __name__ == "__main__":
    main()
