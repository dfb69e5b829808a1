"""Run files of unknown origin only in a child process with limits on time and memory.

A file that runs on zeros may still run for ever, or exhaust the memory, on images. So the child process does not only
inspect the file like `vet.vet`: all of `predict`, `doctor` and `bench` runs there. The parent reads the result as JSON
of bounded length.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from effxfer.benchmark.untrusted.vet import LARGEST, MEMORY_GB, SECONDS, seal_fault
from effxfer.errors import DataError, EffxferError, ModelFileError, SettingsError, error_of_code
from effxfer.process import children
from effxfer.process.scratch import scratch_folder

CHILD = "effxfer.benchmark.untrusted.sandbox_child"
MAX_ANSWER_BYTES = 256 * 2**20  # chosen: 100,000 predictions of 200 bytes have 20 MB
THREAD_GB = 0.2  # of address space: a thread's stack and its own arena of malloc
ERROR_CLASSES: dict[str, type[EffxferError]] = {
    "DataError": DataError,
    "SettingsError": SettingsError,
    "ImageError": DataError,
}


def call_in_sandbox(
    function: str, files: Sequence[Path], arguments: Mapping[str, Any], *, seconds: float = 0.0, size: int | None = None
) -> Any:
    """Inspect files like `vet.vet`, and call a function that opens them, in a child process.

    Args:
        function: `effxfer.module:name`; its arguments and result are JSON values.
        files: The files of unknown origin.
        arguments: Arguments of the function.
        seconds: Time limit in addition to `EFFXFER_FOREIGN_SECONDS` (60).
        size: Value of free sides other than the batch, see `vet.vet`.

    Returns:
        The result of the function.

    Raises:
        ModelFileError: See `vet.vet`; `E427` also if the child exceeds the time limit, or a memory of
            `EFFXFER_FOREIGN_GB` (4) plus four times the size of the files.
        EffxferError: The error of the function.
        SettingsError: If one of the variables is no number above 0.
    """
    if absent := [file for file in files if not file.exists()]:
        raise ModelFileError(f"no model file {absent[0]}", "write one with `effxfer export`", code="E424")
    limit = positive_setting("EFFXFER_FOREIGN_SECONDS", SECONDS) + seconds
    # Four times the file: its bytes, the parsed message, the session's weights, and a packed copy of them.
    memory = positive_setting("EFFXFER_FOREIGN_GB", MEMORY_GB) * 1e9 + 4 * sum(map(_bytes_of, files))
    request = {
        "function": function, "arguments": dict(arguments), "files": [str(file.absolute()) for file in files],
        "memory": int(memory), "more": int((os.cpu_count() or 1) * THREAD_GB * 1e9), "size": size,
    }  # fmt: skip
    response = _run_child(request, " and ".join(map(str, files)), limit)
    if "error" in response:
        kind, code, problem, hint = response["error"]
        faults = [fault for file in files if (fault := seal_fault(file)) and code != "E404"]
        problem = "; ".join([problem, *faults])
        if kind in ("TextError", "VectorError"):
            raise error_of_code(problem, hint, code)
        raise ERROR_CLASSES.get(kind, ModelFileError)(problem, hint, code=code)
    return response["answer"]


def positive_setting(name: str, default: float) -> float:
    """Read a number above 0 from the environment.

    Raises:
        SettingsError: If it is no such number.
    """
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise SettingsError(
            f"{name} must be a number above 0, not {text[:50]!r}", f"unset it, or set {name}={default:g}"
        )
    return value


def _bytes_of(file: Path) -> int:
    """Return a file's size, or 0 if it cannot be a model, which the child reports."""
    size = file.stat().st_size if file.is_file() else 0
    return size if size < LARGEST else 0


def _run_child(request: Mapping[str, Any], files: str, seconds: float) -> dict[str, Any]:
    name = "EFFXFER_FOREIGN_SECONDS"
    with scratch_folder() as folder:
        question, answer = folder / "question.json", folder / "answer.json"
        question.write_text(json.dumps(request), encoding="utf-8")
        try:
            process = children.run(CHILD, str(question), str(answer), seconds=seconds)
        except subprocess.TimeoutExpired:
            hint = (
                f"do not use it; if you trust it and it is slow, set {name} above {positive_setting(name, SECONDS):g}"
            )
            raise ModelFileError(f"{files} did not end within {seconds:.0f} s", hint, code="E427") from None
        return _read_answer(answer, files, process)


def _read_answer(answer: Path, files: str, process: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    from effxfer.benchmark.untrusted.vet import exit_reason

    try:
        if answer.stat().st_size > MAX_ANSWER_BYTES:
            raise ModelFileError(f"{files} returns over {MAX_ANSWER_BYTES} bytes", "do not use it", code="E427")
        response: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        problem = f"using {files} ended the process: {exit_reason(process)}"
        raise ModelFileError(problem, "do not use it", code="E427") from None
    return response
