"""Peak memory of running an ONNX model, measured in a process of its own."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from effxfer.errors import ModelFileError, ResourceError
from effxfer.process import children

CHILD = Path(__file__).with_name("memory_child.py")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Resident memory of a process that does nothing but run one model, in MB (10^6 bytes).

    Attributes:
        peak_mb: Highest, with the interpreter, numpy and ONNX Runtime.
        idle_mb: Highest before the model was opened.
    """

    peak_mb: float
    idle_mb: float

    @property
    def model_mb(self) -> float:
        """What opening and running the model added."""
        return self.peak_mb - self.idle_mb


def measure_memory(
    file: Path, feed: Mapping[str, NDArray[Any]], *, threads: int = 1, runs: int = 5, seconds: float = 120.0
) -> Memory | None:
    """Open a model in a fresh process, run it, and read the process's peak.

    Args:
        file: An ONNX model.
        feed: Arrays by input name; only their shapes and types matter.
        threads: Threads within an operator.
        runs: Calls; the arena has its final size after the first few.
        seconds: After this long the process is stopped.

    Returns:
        The memory, or None on a system that does not tell a process its peak.

    Raises:
        ModelFileError: If the model does not run.
        ResourceError: If it ran longer than `seconds` or was killed, for instance for lack of memory.
    """
    shapes = {name: [list(value.shape), str(value.dtype)] for name, value in feed.items()}
    ask = json.dumps({"file": str(file), "feed": shapes, "threads": threads, "runs": runs})
    try:
        done = children.run(CHILD, ask, seconds=seconds)
    except subprocess.TimeoutExpired:
        raise ResourceError(
            f"{file} did not run {runs} times within {seconds:.0f} s", "measure a smaller batch"
        ) from None
    if done.returncode < 0:
        raise ResourceError(f"running {file} was killed by signal {-done.returncode}", "is there enough memory?")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelFileError(f"{file} does not run: {last[:300]}", code="E427")
    facts = json.loads(done.stdout.splitlines()[-1])
    return Memory(**facts) if facts else None
