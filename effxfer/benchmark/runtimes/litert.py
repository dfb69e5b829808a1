"""Networks in LiteRT (formerly TensorFlow Lite), converted by litert-torch."""

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from effxfer.benchmark.protocol.runners import torch_input
from effxfer.process.scratch import scratch_folder

if TYPE_CHECKING:
    import torch

    from effxfer.benchmark.protocol.latency import Factory


def runner(net: "torch.nn.Module", feed: Mapping[str, NDArray[Any]], threads: int) -> "Factory":
    """Convert a network for the feed's batch, and return a factory that interprets it with XNNPACK.

    Args:
        net: Network in evaluation mode, on the CPU.
        feed: Arrays by input name; the first one is used.
        threads: Threads of the interpreter.
    """
    value = torch_input(feed)
    content = _convert(net, value)

    def open_model() -> Callable[[], object]:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
        source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

        def run() -> object:
            interpreter.set_tensor(source, value)
            interpreter.invoke()
            return [interpreter.get_tensor(result)]

        return run

    return open_model


def _convert(net: "torch.nn.Module", value: NDArray[Any]) -> bytes:
    import litert_torch
    import torch

    # Converters print to stdout, where a command's JSON goes.
    with scratch_folder() as folder, contextlib.redirect_stdout(sys.stderr):
        file = folder / "model.tflite"
        litert_torch.convert(net.eval(), (torch.from_numpy(value),)).export(str(file))
        return file.read_bytes()
