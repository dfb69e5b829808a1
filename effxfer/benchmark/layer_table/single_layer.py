"""ONNX graphs of a single layer, to be timed."""

from typing import Any

import numpy as np

from effxfer.net.layers import Site

OPSET, IR = 20, 10  # as exported files have


def node_model(site: Site, inputs: int, outputs: int) -> tuple[bytes, tuple[int, ...]]:
    """Build a model of one layer for a batch of 1.

    Args:
        site: The layer's shape.
        inputs: Input channels of all groups together.
        outputs: Output channels of all groups together.

    Returns:
        The model, and the shape of its input `x`.
    """
    from onnx import TensorProto, helper

    input_shape, weight, output_shape = _shapes(site, inputs, outputs)
    graph = helper.make_graph(
        [_node(site, inputs)],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)],
        [_constant("w", weight), _constant("b", (outputs,))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    return model.SerializeToString(), input_shape


def _shapes(site: Site, inputs: int, outputs: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    if site.kind == "linear":
        return (site.size[0], inputs), (outputs, inputs), (site.out[0], outputs)
    groups = inputs if site.kind == "depthwise" else site.groups
    return (1, inputs, *site.size), (outputs, inputs // groups, *site.kernel), (1, outputs, *site.out)


def _node(site: Site, inputs: int) -> Any:
    from onnx import helper

    if site.kind == "linear":
        return helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="layer", transB=1)
    pads = [_padding(site, 0), _padding(site, 1)]
    return helper.make_node(
        "Conv",
        ["x", "w", "b"],
        ["y"],
        name="layer",
        kernel_shape=site.kernel,
        strides=site.stride,
        dilations=site.dilation,
        group=inputs if site.kind == "depthwise" else site.groups,
        pads=[pads[0] // 2, pads[1] // 2, pads[0] - pads[0] // 2, pads[1] - pads[1] // 2],
    )


def _padding(site: Site, side: int) -> int:
    """Total padding along one axis that yields the output size, whatever padding the network uses."""
    covered = (site.out[side] - 1) * site.stride[side] + site.dilation[side] * (site.kernel[side] - 1) + 1
    return max(0, covered - site.size[side])


def _constant(name: str, shape: tuple[int, ...]) -> Any:
    from onnx import numpy_helper

    # Not zeros, and small: sums stay far from denormal numbers and from infinity, which take other times.
    return numpy_helper.from_array(np.full(shape, 0.01, np.float32), name)
