"""ONNX graphs with what the doctor looks for planted in them, made by hand."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from effxfer.deploy.graph.graph import Graph, name_nodes

FEED = {"x": np.random.default_rng(1).standard_normal((1, 3, 16, 16)).astype(np.float32)}


class Maker:
    """Builds a network that ends in global pooling and a linear layer."""

    def __init__(self, seed=0, opset=20):
        self.rng, self.nodes, self.tensors, self.opset = np.random.default_rng(seed), [], [], opset
        self.at, self.channels = "x", 3

    def const(self, value, kind=np.float32):
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def add(self, op, *inputs, **attributes):
        inputs = inputs or (self.at,)
        self.at = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [self.at], name=f"{op}_{len(self.nodes)}", **attributes))
        return self.at

    def conv(self, out, kernel=3, groups=1, stride=1, keep=None):
        weight = self.rng.standard_normal((out, self.channels // groups, kernel, kernel)) / kernel / self.channels**0.5
        bias = self.rng.standard_normal(out) / 4
        if keep is not None:
            weight, bias = weight * keep.reshape(-1, 1, 1, 1), bias * keep
        pads = [kernel // 2] * 4
        given = (self.at, self.const(weight), self.const(bias))
        self.channels = out
        return self.add("Conv", *given, group=groups, pads=pads, strides=[stride] * 2, kernel_shape=[kernel] * 2)

    def per_channel(self, low=0.5, high=1.5):
        return self.const(self.rng.uniform(low, high, (1, self.channels, 1, 1)))

    def batchnorm(self):
        values = [self.const(self.rng.uniform(0.5, 1.5, self.channels)) for _ in range(4)]
        return self.add("BatchNormalization", self.at, *values)

    def hardswish(self):
        x = self.at
        self.add("Add", x, self.const(3.0))
        self.add("Clip", self.at, self.const(0.0), self.const(6.0))
        self.add("Mul", x, self.at)
        return self.add("Div", self.at, self.const(6.0))

    def gelu(self):
        x = self.at
        self.add("Mul", x, self.const(0.5**0.5))
        self.add("Erf")
        self.add("Add", self.at, self.const(1.0))
        self.add("Mul", x, self.at)
        return self.add("Mul", self.at, self.const(0.5))

    def squeeze_excite(self, width):
        x, wide = self.at, self.channels
        self.add("GlobalAveragePool")
        self.conv(width, 1)
        self.add("Relu")
        self.conv(wide, 1)
        self.add("Sigmoid")
        return self.add("Mul", x, self.at)

    def head(self, classes=5, rows=None):
        self.add("ReduceMean", self.at, self.const([2, 3], np.int64), keepdims=1)
        self.add("Reshape", self.at, self.const([-1, self.channels], np.int64), allowzero=1)
        weight = self.const(self.rng.standard_normal((classes, self.channels)))
        return self.add("Gemm", self.at, weight, self.const(self.rng.standard_normal(classes)), transB=1)

    def model(self, outputs=()):
        value = helper.make_tensor_value_info
        given = [value("x", TensorProto.FLOAT, ["batch", 3, 16, 16])]
        made = [value(name, TensorProto.FLOAT, None) for name in (self.at, *outputs)]
        graph = helper.make_graph(self.nodes, "g", given, made, self.tensors)
        return name_nodes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10))

    def graph(self, outputs=()):
        return Graph(self.model(outputs))

    def save(self, file):
        onnx.save(self.model(), file)
        return file


def plain(width=16, act="Relu", stride=2, **options):
    """Three convolutions and a head, with nothing to complain about."""
    made = Maker(**options)
    for step in (stride, 1, 1):
        made.conv(width, stride=step)
        made.add(act)
    made.head()
    return made


def run(model, feed=FEED):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feed)


def same(one, other):
    return all(np.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(run(one), run(other), strict=True))


def ops(model):
    return [node.op_type for node in model.graph.node]
