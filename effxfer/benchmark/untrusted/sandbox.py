"""Whatever a file that nobody vouches for computes is computed in a process of its own, within limits.

What such a file does on zeros says nothing of what it does on images: it may run for ever, or take all memory, on these
alone. So not only is it looked at in a child process first, as by `foreign.vet`: the whole of `predict`, `doctor` and
`bench` on it runs there. The parent reads what comes out of it as JSON of bounded length.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from effxfer.benchmark.untrusted.vet import LARGEST, MEMORY_GB, SECONDS
from effxfer.errors import DataError, EffxferError, ModelFileError, SettingsError
from effxfer.process import children
from effxfer.process.scratch import scratch_folder

CHILD = "effxfer.benchmark.untrusted.sandbox_child"
LONGEST_ANSWER = 256 * 2**20
THREAD_GB = 0.2  # of address space: a thread's stack and its own arena of malloc
RAISED: dict[str, type[EffxferError]] = {
    "DataError": DataError,
    "SettingsError": SettingsError,
    "ImageError": DataError,
}


def inside(
    function: str, files: Sequence[Path], arguments: Mapping[str, Any], *, seconds: float = 0.0, size: int | None = None
) -> Any:
    """Look at files as `foreign.vet` does, and call a function that opens them, in a child process.

    Args:
        function: `effxfer.module:name`; takes and gives plain values.
        files: Those that nobody vouches for.
        arguments: Of the function.
        seconds: What it may take on top of `EFFXFER_FOREIGN_SECONDS` (60).
        size: As in `foreign.vet`.

    Returns:
        What the function gave.

    Raises:
        ModelFileError: As `foreign.vet`; `E427` also if the child takes longer, or more memory than
            `EFFXFER_FOREIGN_GB` (4) beyond four times what the files take.
        EffxferError: What the function raised.
        SettingsError: If one of the variables is no number above 0.
    """
    if absent := [file for file in files if not file.exists()]:
        raise ModelFileError(f"no model file {absent[0]}", "write one with `effxfer export`", code="E424")
    limit = setting("EFFXFER_FOREIGN_SECONDS", SECONDS) + seconds
    memory = setting("EFFXFER_FOREIGN_GB", MEMORY_GB) * 1e9 + 4 * sum(map(_bytes_of, files))
    ask = {
        "function": function, "arguments": dict(arguments), "files": [str(file.absolute()) for file in files],
        "memory": int(memory), "more": int((os.cpu_count() or 1) * THREAD_GB * 1e9), "size": size,
    }  # fmt: skip
    found = _asked(ask, " and ".join(map(str, files)), limit)
    if "error" in found:
        kind, code, problem, hint = found["error"]
        raise RAISED.get(kind, ModelFileError)(problem, hint, code=code)
    return found["answer"]


def setting(name: str, default: float) -> float:
    """Read a number above 0 from the environment.

    Raises:
        SettingsError: If it is something else.
    """
    text = os.environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise SettingsError(f"{name} is {text[:50]!r}, no number above 0", f"unset it, or write {name}={default:g}")
    return value


def _bytes_of(file: Path) -> int:
    """Give a file's size, of one that can be a model; the child says what is wrong with others."""
    size = file.stat().st_size if file.is_file() else 0
    return size if size < LARGEST else 0


def _asked(ask: Mapping[str, Any], files: str, seconds: float) -> dict[str, Any]:
    name = "EFFXFER_FOREIGN_SECONDS"
    with scratch_folder() as folder:
        question, answer = folder / "question.json", folder / "answer.json"
        question.write_text(json.dumps(ask), encoding="utf-8")
        try:
            done = children.run(CHILD, str(question), str(answer), seconds=seconds)
        except subprocess.TimeoutExpired:
            hint = f"do not use it; or, if you know it to be slow, set {name} above {setting(name, SECONDS):g}"
            raise ModelFileError(f"{files} did not end within {seconds:.0f} s", hint, code="E427") from None
        return _read(answer, files, done)


def _read(answer: Path, files: str, done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    from effxfer.benchmark.untrusted.vet import last_words

    try:
        if answer.stat().st_size > LONGEST_ANSWER:
            raise ModelFileError(f"{files} answers with over {LONGEST_ANSWER} bytes", "do not use it", code="E427")
        found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        problem = f"using {files} ended the process: {last_words(done)}"
        raise ModelFileError(problem, "do not use it", code="E427") from None
    return found
