"""Where the time of one call goes, kernel by kernel, by ONNX Runtime's own profile."""

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
from effxfer.runtime.session import error_summary, open_session, session_options

WARMUP = 3
MARK = "_kernel_time"
ADDED = re.compile(r"(_nchwc|_token_\d+|/duplicated|_DequantizeLinear|_QuantizeLinear)+$")
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One operator as ONNX Runtime runs it, after its optimizations.

    Attributes:
        name: As in the optimized graph; `origin` finds the file's node.
        op: The operator that runs, such as `Conv`, `QLinearConv` or `ReorderInput`.
        ms: Milliseconds in one call of the model, median over calls.
        inputs: Shapes of the inputs that are there.
        types: Their element types, such as `float` or `uint8`.
        outputs: Shapes of the outputs.
        bytes: Read and written: activations, parameters and outputs.
    """

    name: str
    op: str
    ms: float
    inputs: tuple[Shape, ...]
    types: tuple[str, ...]
    outputs: tuple[Shape, ...]
    bytes: int


def profile(file: Path, feed: Mapping[str, NDArray[Any]], *, threads: int = 1, seconds: float = 1.0) -> list[Kernel]:
    """Run a model for a while and read what each kernel took.

    Args:
        file: The model.
        feed: Input arrays by name.
        threads: Within an operator.
        seconds: For how long; at least five calls are made, after a warm-up that does not count.

    Returns:
        The kernels in the order in which they ran.

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
    return kernels(events)


def kernels(events: Iterable[Mapping[str, Any]]) -> list[Kernel]:
    """Read kernels out of a profile's events; the first calls are left out.

    Raises:
        ResourceError: If there are none.
    """
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    calls = 0
    for event in events:
        calls += event.get("name") == "model_run"
        if event.get("cat") == "Node" and str(event["name"]).endswith(MARK):
            key = (str(event["args"].get("node_index")), str(event["name"]))
            found.setdefault(key, []).append(event)
    if not found or not calls:
        raise ResourceError("ONNX Runtime's profile shows no kernels", "see `effxfer doctor`")
    return [_kernel(name.removesuffix(MARK), many, calls) for (_, name), many in found.items()]


def origin(kernel: Kernel, nodes: Iterable[str], producers: Mapping[str, str]) -> str:
    """Name the node of the file that a kernel came from, or give the kernel's own name.

    Args:
        kernel: Its name may be a node's or an output's with what ONNX Runtime adds.
        nodes: Names of the file's nodes.
        producers: By tensor, the name of the node that makes it.
    """
    known = set(nodes)
    for name in (kernel.name, ADDED.sub("", kernel.name)):
        if name in known:
            return name
        if name in producers:
            return producers[name]
    return kernel.name


def _kernel(name: str, events: list[Mapping[str, Any]], calls: int) -> Kernel:
    """Sum up one kernel; one that a loop runs several times in a call counts as often."""
    args, times = events[0]["args"], [float(event["dur"]) for event in events]
    often = max(1, round(len(times) / calls))
    kept = times[WARMUP * often :] or times
    shapes = args.get("input_type_shape", ())
    sizes = (args.get(key, 0) for key in ("activation_size", "parameter_size", "output_size"))
    return Kernel(
        name=name,
        op=str(args.get("op_name", "")),
        ms=float(np.median(kept)) * often / 1e3,
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
    while calls < 5 or (perf_counter() - begun < seconds and calls < 200):
        session.run(None, dict(feed))
        calls += 1
