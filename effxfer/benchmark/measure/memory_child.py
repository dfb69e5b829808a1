"""Child process of `measure_memory`: run one model and print the peak memory, without importing effxfer.

On Linux, `ru_maxrss` is useless, because a child inherits its parent's. `VmHWM` is that of this process only.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before ONNX Runtime is imported: it reads this once


def peak_mb() -> float | None:
    """Return the peak resident memory of this process in MB (10^6 bytes), or None if it is unknown."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def reset_peak() -> None:
    """Reset the peak to the present resident memory, where Linux allows it."""
    try:
        # 5 resets VmHWM (proc(5)).
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
    """Run the request in the first argument."""
    import numpy as np
    import onnxruntime

    request: dict[str, Any] = json.loads(sys.argv[1])
    # Imports and first allocations belong to the idle process, not to the model.
    np.zeros(1), onnxruntime.get_available_providers()
    reset_peak()
    idle = peak_mb()
    run_model(**request)
    peak = peak_mb()
    sys.stdout.write(json.dumps({} if idle is None else {"idle_mb": idle, "peak_mb": peak}) + "\n")


if __name__ == "__main__":
    main()
