"""The process that `measure_memory` starts: imports nothing of effxfer, opens one model, prints its peak.

`ru_maxrss` is of no use on Linux: a child inherits its parent's. `VmHWM` belongs to this address space alone.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before ONNX Runtime is imported: it reads this once


def peak_mb() -> float | None:
    """Give the highest resident memory of this process so far in MB (10^6 bytes), or None if it is not told."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def forget_peak() -> None:
    """Start the peak afresh at what is resident now, where Linux allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def run_model(file: str, feed: dict[str, Any], threads: int, runs: int) -> None:
    """Open a model and run it on zeros of the shapes and types of `feed`."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    zeros = {name: np.zeros(shape, dtype) for name, (shape, dtype) in feed.items()}
    for _ in range(runs):
        session.run(None, zeros)


def main() -> None:
    """Answer the question in the first argument."""
    import numpy as np
    import onnxruntime

    ask: dict[str, Any] = json.loads(sys.argv[1])
    np.zeros(1), onnxruntime.get_available_providers()
    forget_peak()
    idle = peak_mb()
    run_model(**ask)
    peak = peak_mb()
    sys.stdout.write(json.dumps({} if idle is None else {"idle_mb": idle, "peak_mb": peak}) + "\n")


if __name__ == "__main__":
    main()
