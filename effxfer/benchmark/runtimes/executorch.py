"""Networks in ExecuTorch, lowered to XNNPACK."""

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from effxfer.benchmark.protocol.runners import torch_input

if TYPE_CHECKING:
    import torch

    from effxfer.benchmark.protocol.latency import Factory


def runner(net: "torch.nn.Module", feed: Mapping[str, NDArray[Any]], threads: int) -> "Factory":
    """Lower a network for the feed's batch, and return a factory that runs it.

    Args:
        net: Network in evaluation mode, on the CPU.
        feed: Arrays by input name; the first one is used.
        threads: Threads of ExecuTorch's pool, which all programs share.
    """
    import torch

    example = torch.from_numpy(torch_input(feed))
    program = _lower(net, example)

    def open_model() -> Callable[[], object]:
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        # The only way to set its threads; private, and for the whole process.
        portable_lib._unsafe_reset_threadpool(threads)
        method = Runtime.get().load_program(program).load_method("forward")
        return lambda: method.execute([example])

    return open_model


def _lower(net: "torch.nn.Module", example: "torch.Tensor") -> bytes:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    # Converters print to stdout, where a command's JSON goes.
    with contextlib.redirect_stdout(sys.stderr):
        graph = torch.export.export(net.eval(), (example,))
        return bytes(to_edge_transform_and_lower(graph, partitioner=[XnnpackPartitioner()]).to_executorch().buffer)
