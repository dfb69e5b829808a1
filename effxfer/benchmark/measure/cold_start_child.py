"""Child process of `measure_cold_start`: run a model once and print the times, without importing effxfer.

The times are those of `time.monotonic_ns`, whose zero all processes of a machine share.
"""

import json
import os
import sys
import time
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before ONNX Runtime is imported: it reads this once


def time_steps(file: str, feed: dict[str, Any], threads: int) -> list[int]:
    """Import, open the model, run it on zeros; return the times at the end of each step, in nanoseconds."""
    import numpy as np
    import onnxruntime

    zeros = {name: np.zeros(shape, dtype) for name, (shape, dtype) in feed.items()}
    moments = [time.monotonic_ns()]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    moments.append(time.monotonic_ns())
    session.run(None, zeros)
    return [*moments, time.monotonic_ns()]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(time_steps(**json.loads(sys.argv[1]))) + "\n")
