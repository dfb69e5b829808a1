"""Time of one call by kernel, from ONNX Runtime's profiler."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.errors import ModelFileError, ResourceError
from effxfer.process.scratch import scratch_folder
from effxfer.process.timing_lock import exclusive_timing
from effxfer.runtime.session import error_summary, open_session, session_options

WARMUP = 3  # chosen: calls that allocate and pack
KERNEL_SUFFIX = "_kernel_time"
# What ONNX Runtime's optimizer appends to names; found by looking at profiles of version 1.32.
ADDED_SUFFIX = re.compile(r"(_nchwc|_token_\d+|/duplicated|_DequantizeLinear|_QuantizeLinear)+$")
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """An operator as ONNX Runtime runs it, after its optimizations.

    Attributes:
        name: Name in the optimized graph; `source_node` returns the file's node.
        op: The operator that runs, such as `Conv`, `QLinearConv` or `ReorderInput`.
        ms: Milliseconds in one call of the model, median over calls.
        inputs: Shapes of the inputs that are present.
        types: Their element types, such as `float` or `uint8`.
        outputs: Shapes of the outputs.
        bytes: Bytes read and written: activations, parameters and outputs.
    """

    name: str
    op: str
    ms: float
    inputs: tuple[Shape, ...]
    types: tuple[str, ...]
    outputs: tuple[Shape, ...]
    bytes: int


@exclusive_timing()
def profile(file: Path, feed: Mapping[str, NDArray[Any]], *, threads: int = 1, seconds: float = 1.0) -> list[Kernel]:
    """Run a model repeatedly and read the time of each kernel.

    Args:
        file: The model.
        feed: Input arrays by name.
        threads: Threads within an operator.
        seconds: Duration; at least five calls are made after the warm-up.

    Returns:
        The kernels in the order of execution.

    Raises:
        ModelFileError: If the file cannot be opened or run.
        ResourceError: If ONNX Runtime wrote no profile.
    """
    options = session_options(threads=threads, inter_op_num_threads=1, enable_profiling=True)
    with scratch_folder() as scratch:
        options.profile_file_prefix = str(scratch / "profile")
        try:
            session = open_session(file, options)
            _repeat(session, feed, seconds)
        except Exception as error:  # ONNX Runtime's exceptions have no public home
            raise ModelFileError(f"ONNX Runtime cannot run {file}: {error_summary(error)}", code="E424") from error
        events = json.loads(Path(session.end_profiling()).read_text())
    return read_kernels(events)


def read_kernels(events: Iterable[Mapping[str, Any]]) -> list[Kernel]:
    """Read the kernels from a profile's events, except those of the first calls.

    Raises:
        ResourceError: If there are none.
    """
    events_by_kernel: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    calls = 0
    for event in events:
        calls += event.get("name") == "model_run"
        if event.get("cat") == "Node" and str(event["name"]).endswith(KERNEL_SUFFIX):
            # With the index: nodes of other files may share a name, or have none.
            key = (str(event["args"].get("node_index")), str(event["name"]))
            events_by_kernel.setdefault(key, []).append(event)
    if not events_by_kernel or not calls:
        raise ResourceError("ONNX Runtime's profile shows no kernels", "see `effxfer doctor`")
    return [_kernel(name.removesuffix(KERNEL_SUFFIX), many, calls) for (_, name), many in events_by_kernel.items()]


def source_node(kernel: Kernel, nodes: Iterable[str], producers: Mapping[str, str]) -> str:
    """Return the name of a kernel's node in the file, or else the kernel's own name.

    Args:
        kernel: Its name may be that of a node or an output, with suffixes of ONNX Runtime.
        nodes: Names of the file's nodes.
        producers: By tensor, the name of the node that computes it.
    """
    node_names = set(nodes)
    for name in (kernel.name, ADDED_SUFFIX.sub("", kernel.name)):
        if name in node_names:
            return name
        if name in producers:
            return producers[name]
    return kernel.name


def _kernel(name: str, events: list[Mapping[str, Any]], calls: int) -> Kernel:
    """Summarize a kernel; all its runs in a loop of one call are counted."""
    args, times = events[0]["args"], [float(event["dur"]) for event in events]
    # Nodes in a loop run several times in a call.
    runs_per_call = max(1, round(len(times) / calls))
    timed = times[WARMUP * runs_per_call :] or times
    shapes = args.get("input_type_shape", ())
    sizes = (args.get(key, 0) for key in ("activation_size", "parameter_size", "output_size"))
    return Kernel(
        name=name,
        op=str(args.get("op_name", "")),
        ms=float(np.median(timed)) * runs_per_call / 1e3,
        inputs=tuple(tuple(shape) for one in shapes for shape in one.values()),
        types=tuple(str(kind) for one in shapes for kind in one),
        outputs=tuple(tuple(shape) for one in args.get("output_type_shape", ()) for shape in one.values()),
        bytes=sum(int(size) for size in sizes),
    )


def _repeat(session: Any, feed: Mapping[str, Any], seconds: float) -> None:
    from time import perf_counter

    for _ in range(WARMUP):
        session.run(None, dict(feed))
    begun, calls = perf_counter(), 0
    # 5: a median of slow models. 200: chosen; a profile of more has tens of MB of JSON.
    while calls < 5 or (perf_counter() - begun < seconds and calls < 200):
        session.run(None, dict(feed))
        calls += 1
