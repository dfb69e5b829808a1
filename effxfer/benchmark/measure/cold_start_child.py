"""The process that `measure_cold` starts: imports nothing of effxfer, answers once, prints when it did what.

The times are those of `time.monotonic_ns`, whose zero all processes of a machine share.
"""

import json
import os
import sys
import time
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before ONNX Runtime is imported: it reads this once


def answer(file: str, feed: dict[str, Any], threads: int) -> list[int]:
    """Import, open the model, run it on zeros; give the moments at which each was done, in nanoseconds."""
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
    sys.stdout.write(json.dumps(answer(**json.loads(sys.argv[1]))) + "\n")
