"""Child process that measures cold starts, memory and serving: run one model, without importing effxfer.

Times are those of `time.monotonic_ns`, whose zero all processes of a machine share. On Linux, `ru_maxrss` is useless,
because a child inherits its parent's; `VmHWM` is that of this process only.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before ONNX Runtime is imported: it reads this once

Run = Callable[[dict[str, Any]], object]
OpenModel = Callable[[str, int], Run]


def import_runtime(name: str) -> OpenModel:
    """Import numpy and a runtime; return what opens a file with a number of threads."""
    import numpy as np

    np.zeros(1)
    return import_openvino() if name == "openvino" else import_onnxruntime()


def import_onnxruntime() -> OpenModel:
    """Import ONNX Runtime; return what opens a file with a number of threads."""
    import onnxruntime

    onnxruntime.get_available_providers()

    def open_model(file: str, threads: int) -> Run:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda feed: session.run(None, feed)

    return open_model


def import_openvino() -> OpenModel:
    """Import OpenVINO; return what opens a file, with the properties of `runtime.openvino.openvino_session`."""
    # Without its package that reports home: None makes the import fail, and openvino takes a stub.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    def open_model(file: str, threads: int) -> Run:
        fixed = {
            "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }  # fmt: skip
        core = openvino.Core()
        run: Run = core.compile_model(core.read_model(file), "CPU", fixed).create_infer_request().infer
        return run

    return open_model


def zeros_of(feed: dict[str, Any]) -> dict[str, Any]:
    """Return zeros of the shapes and types of `feed`."""
    import numpy as np

    return {name: np.zeros(shape, dtype) for name, (shape, dtype) in feed.items()}


def time_steps(runtime: str, file: str, feed: dict[str, Any], threads: int) -> list[int]:
    """Import, open the model, run it on zeros; return the times at the end of each step, in nanoseconds."""
    open_model = import_runtime(runtime)
    zeros = zeros_of(feed)
    moments = [time.monotonic_ns()]
    run = open_model(file, threads)
    moments.append(time.monotonic_ns())
    run(zeros)
    return [*moments, time.monotonic_ns()]


def peak_memory(runtime: str, file: str, feed: dict[str, Any], threads: int, runs: int) -> dict[str, float]:
    """Run the model on zeros; return the peak memory before and after, empty if the system does not tell."""
    # Imports and first allocations belong to the idle process, not to the model.
    open_model = import_runtime(runtime)
    reset_peak()
    idle = peak_mb()
    run, zeros = open_model(file, threads), zeros_of(feed)
    for _ in range(runs):
        run(zeros)
    peak = peak_mb()
    return {} if idle is None or peak is None else {"idle_mb": idle, "peak_mb": peak}


def serve(runtime: str, file: str, feed: dict[str, Any], threads: int) -> None:
    """Run the model on zeros from moment to moment as lines of the input say; write the durations of all calls.

    A line is a list of two moments in nanoseconds; it ends with the input. Before each, an empty list says that the
    model is open and waits. Durations are in seconds, of calls that ended in time.
    """
    run, zeros = import_runtime(runtime)(file, threads), zeros_of(feed)
    run(zeros)
    while True:
        write_line([])
        line = sys.stdin.readline()
        if not line:
            return
        begin, end = json.loads(line)
        time.sleep(max(0.0, (begin - time.monotonic_ns()) / 1e9))
        moments = [time.monotonic_ns()]
        while moments[-1] < end:
            run(zeros)
            moments.append(time.monotonic_ns())
        ends = [moment for moment in moments[1:] if moment <= end]
        write_line([(after - before) / 1e9 for before, after in zip(moments, ends, strict=False)])


def write_line(value: object) -> None:
    """Write a value as a line of JSON at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


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


if __name__ == "__main__":
    request: dict[str, Any] = json.loads(sys.argv[1])
    if request.pop("serve", False):
        serve(**request)
    else:
        write_line(peak_memory(**request) if "runs" in request else time_steps(**request))
