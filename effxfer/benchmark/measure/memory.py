"""Peak memory of running an ONNX model, measured in a separate process."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from effxfer.errors import ModelFileError, ResourceError
from effxfer.process import children
from effxfer.runtime.session import ONNXRUNTIME

CHILD = Path(__file__).with_name("model_child.py")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Resident memory of a process that only runs one model, in MB (10^6 bytes).

    Attributes:
        peak_mb: Peak, including the interpreter, numpy and the runtime.
        idle_mb: Peak before the model was opened.
    """

    peak_mb: float
    idle_mb: float

    @property
    def model_mb(self) -> float:
        """Memory added by opening and running the model."""
        return self.peak_mb - self.idle_mb


def measure_memory(
    file: Path, feed: Mapping[str, NDArray[Any]], *, threads: int = 1, runs: int = 5, seconds: float = 120.0,
    runtime: str = ONNXRUNTIME,
) -> Memory | None:  # fmt: skip
    """Run a model in a new process, and read the peak memory of the process.

    Args:
        file: An ONNX model.
        feed: Arrays by input name; only their shapes and types are used.
        threads: Threads within an operator.
        runs: Calls; the arena has its final size after the first few.
        seconds: Time limit, after which the process is stopped.
        runtime: What runs the model, see `effxfer.runtime.model.Model`.

    Returns:
        The memory, or None if the system does not report the peak of a process.

    Raises:
        ModelFileError: If the model does not run.
        ResourceError: If it ran longer than `seconds` or was killed, for instance for lack of memory.
    """
    shapes = {name: [list(value.shape), str(value.dtype)] for name, value in feed.items()}
    request = json.dumps({"file": str(file), "feed": shapes, "threads": threads, "runs": runs, "runtime": runtime})
    try:
        process = children.run(CHILD, request, seconds=seconds)
    except subprocess.TimeoutExpired:
        raise ResourceError(
            f"{file} did not run {runs} times within {seconds:.0f} s", "measure a smaller batch"
        ) from None
    if process.returncode < 0:
        raise ResourceError(f"running {file} was killed by signal {-process.returncode}", "is there enough memory?")
    if process.returncode:
        message = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelFileError(f"{file} does not run: {message[:300]}", code="E427")
    facts = json.loads(process.stdout.splitlines()[-1])
    return Memory(**facts) if facts else None
