"""ONNX files in OpenVINO.

A model is compiled once and reused in every block: compiling takes seconds, and its idle threads sleep instead of
spinning, so they do not disturb other models.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from effxfer.runtime.openvino.openvino_session import compile_model

if TYPE_CHECKING:
    from effxfer.benchmark.protocol.latency import Factory


def runner(file: Path, feed: Mapping[str, NDArray[Any]], threads: int) -> "Factory":
    """Compile a model for the CPU, with float32 inference, and return a factory that runs it on `feed`.

    Args:
        file: The ONNX file.
        feed: Arrays by input name.
        threads: Threads of one request.
    """
    compiled, values = compile_model(file, threads), dict(feed)

    def open_model() -> Callable[[], object]:
        request = compiled.create_infer_request()
        return lambda: request.infer(values, share_inputs=True, share_outputs=True)

    return open_model
