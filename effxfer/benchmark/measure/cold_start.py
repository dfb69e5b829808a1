"""Cold start: how long a fresh process takes from its start to the first answer of a model."""

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from effxfer.errors import ModelFileError, ResourceError
from effxfer.process import children

CHILD = Path(__file__).with_name("cold_start_child.py")


@dataclass(frozen=True, kw_only=True)
class Cold:
    """The start of one process that does nothing but answer once; wall clock in milliseconds.

    The file is in the system's cache: reading it from a disk comes on top.

    Attributes:
        total_ms: From the start of the process to the answer.
        import_ms: Until Python, numpy and ONNX Runtime are loaded: the same for every model.
        load_ms: Opening the session.
        first_ms: The first call.
    """

    total_ms: float
    import_ms: float
    load_ms: float
    first_ms: float


def measure_cold(
    models: Mapping[str, Path], feeds: Mapping[str, Mapping[str, NDArray[Any]]], *, threads: int = 1, runs: int = 3,
    seconds: float = 120.0,
) -> dict[str, list[Cold]]:  # fmt: skip
    """Start every model in fresh processes, the models in turns.

    Args:
        models: ONNX files by name.
        feeds: By the same names, arrays by input name; only their shapes and types matter.
        threads: Threads within an operator.
        runs: Processes per model; 0 measures nothing.
        seconds: After this long a process is stopped.

    Returns:
        By name, one entry per process; empty for 0 runs.

    Raises:
        ModelFileError: If a model does not run.
        ResourceError: If a process ran longer than `seconds` or was killed.
    """
    found: dict[str, list[Cold]] = {name: [] for name in models} if runs else {}
    for _ in range(runs):
        for name, file in models.items():
            found[name].append(_start(file, feeds[name], threads, seconds))
    return found


def _start(file: Path, feed: Mapping[str, NDArray[Any]], threads: int, seconds: float) -> Cold:
    shapes = {name: [list(value.shape), str(value.dtype)] for name, value in feed.items()}
    ask = json.dumps({"file": str(file), "feed": shapes, "threads": threads})
    begun = time.monotonic_ns()
    try:
        done = children.run(CHILD, ask, seconds=seconds)
    except subprocess.TimeoutExpired:
        raise ResourceError(f"{file} gave no answer within {seconds:.0f} s", "measure a smaller batch") from None
    if done.returncode < 0:
        raise ResourceError(f"running {file} was killed by signal {-done.returncode}", "is there enough memory?")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelFileError(f"{file} does not run: {last[:300]}", code="E427")
    imported, opened, answered = json.loads(done.stdout.splitlines()[-1])
    return Cold(
        total_ms=(answered - begun) / 1e6, import_ms=(imported - begun) / 1e6,
        load_ms=(opened - imported) / 1e6, first_ms=(answered - opened) / 1e6,
    )  # fmt: skip
