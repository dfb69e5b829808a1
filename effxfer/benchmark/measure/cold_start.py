"""Cold start: the time from the start of a process to the first output of a model."""

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
from effxfer.process.timing_lock import exclusive_timing
from effxfer.runtime.session import ONNXRUNTIME

CHILD = Path(__file__).with_name("model_child.py")
NO_RUNTIMES: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """Start of a process that runs a model once; wall clock in milliseconds.

    The file is in the system's cache, so the time to read it from disk is not included.

    Attributes:
        total_ms: Time from the start of the process to the output.
        import_ms: Time to load Python, numpy and the runtime, the same for every model in it.
        load_ms: Time to open the session.
        first_ms: Time of the first call.
    """

    total_ms: float
    import_ms: float
    load_ms: float
    first_ms: float


@exclusive_timing()
def measure_cold_start(
    models: Mapping[str, Path], feeds: Mapping[str, Mapping[str, NDArray[Any]]], *, threads: int = 1, runs: int = 3,
    seconds: float = 120.0, runtimes: Mapping[str, str] = NO_RUNTIMES,
) -> dict[str, list[ColdStart]]:  # fmt: skip
    """Start every model in new processes, the models in turns.

    Args:
        models: ONNX files by name.
        feeds: By the same names, arrays by input name; only their shapes and types are used.
        threads: Threads within an operator.
        runs: Processes per model; 0 measures nothing.
        seconds: Time limit, after which a process is stopped.
        runtimes: What runs the models, by name; ONNX Runtime where none is named.

    Returns:
        By name, one entry per process; empty for 0 runs.

    Raises:
        ModelFileError: If a model does not run.
        ResourceError: If a process ran longer than `seconds` or was killed.
    """
    starts: dict[str, list[ColdStart]] = {name: [] for name in models} if runs else {}
    # In turns: a cache that warms up favours no model.
    for _ in range(runs):
        for name, file in models.items():
            runtime = runtimes.get(name, ONNXRUNTIME)
            starts[name].append(_time_start(file, feeds[name], threads, seconds, runtime))
    return starts


def _time_start(
    file: Path, feed: Mapping[str, NDArray[Any]], threads: int, seconds: float, runtime: str
) -> ColdStart:  # fmt: skip
    shapes = {name: [list(value.shape), str(value.dtype)] for name, value in feed.items()}
    request = json.dumps({"file": str(file), "feed": shapes, "threads": threads, "runtime": runtime})
    begun = time.monotonic_ns()
    try:
        process = children.run(CHILD, request, seconds=seconds)
    except subprocess.TimeoutExpired:
        raise ResourceError(f"{file} gave no output within {seconds:.0f} s", "measure a smaller batch") from None
    if process.returncode < 0:
        raise ResourceError(f"running {file} was killed by signal {-process.returncode}", "is there enough memory?")
    if process.returncode:
        message = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelFileError(f"{file} does not run: {message[:300]}", code="E427")
    imported, opened, answered = json.loads(process.stdout.splitlines()[-1])
    return ColdStart(
        total_ms=(answered - begun) / 1e6, import_ms=(imported - begun) / 1e6,
        load_ms=(opened - imported) / 1e6, first_ms=(answered - opened) / 1e6,
    )  # fmt: skip
