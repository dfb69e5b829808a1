"""The process that `inside` starts: limits itself, looks at the files, calls the function, writes what it gives.

What is wrong is written as `{"error": [class, code, problem, hint]}`; a crash or a hang is the parent's to name.
"""

import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from effxfer.benchmark.untrusted.vet_child import HUNGRY, Refused, examine, limit
from effxfer.errors import EffxferError
from effxfer.runtime.images.preprocess import ImageError
from effxfer.runtime.model_file.metadata import ModelError
from effxfer.runtime.session import error_summary

LARGEST_FILE = 2**31
MODEL = "ModelFileError"


def answer(ask: Mapping[str, Any]) -> dict[str, Any]:
    """Give `{"answer": ...}` or `{"error": ...}`; a defect of effxfer is raised."""
    files, memory, vetted = list(ask["files"]), ask["memory"], list[str]()
    try:
        for file in files:
            vetted[:] = [file]
            memory += 4 * examine(Path(file), memory, 0, ask["size"])["outside_bytes"]
        vetted[:] = files
        limit(memory + ask["more"], 0, LARGEST_FILE)
        return {"answer": _function(ask["function"])(**ask["arguments"])}
    except Exception as error:
        return {"error": _told(error, " and ".join(vetted), ask["memory"] / 1e9)}


def _told(error: Exception, files: str, memory: float) -> list[str]:
    """Give class, code, problem and hint of what was raised while files were used."""
    if isinstance(error, MemoryError) or any(word in str(error) for word in HUNGRY):
        advice = "do not use it; or, if you know it to be large, set EFFXFER_FOREIGN_GB higher"
        return [MODEL, "E427", f"{files} takes more than {memory:.1f} GB of memory", advice]
    if isinstance(error, RecursionError):
        return [MODEL, "E424", f"{files}: not an ONNX model: nested too deeply", ""]
    if isinstance(error, Refused):
        code, problem, hint = error.args
        return [MODEL, code, f"{files}: {problem}", hint]
    if isinstance(error, EffxferError | ModelError | ImageError):
        return [type(error).__name__, error.code, error.problem, error.hint]
    if type(error).__module__.startswith("onnxruntime"):
        return [MODEL, "E427", f"ONNX Runtime cannot run {files}: {error_summary(error)}", "do not use it"]
    raise error


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    if not module.startswith("effxfer."):
        raise ValueError(name)
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def main() -> None:
    """Answer the question in the first file, in the second."""
    ask: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    found = answer(ask)
    limit(2 * ask["memory"] + ask["more"], 0, LARGEST_FILE)
    Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
