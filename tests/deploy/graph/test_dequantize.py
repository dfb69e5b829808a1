import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from effxfer.deploy.graph.dequantize import is_quantized, to_float, to_unsigned
from effxfer.deploy.graph.graph import Graph, name_nodes, open_graph
from tests.deploy.graphs import FEED, Maker, ops, plain, run


class Reader(CalibrationDataReader):
    def __init__(self):
        self.left = [FEED]

    def get_next(self):
        return self.left.pop() if self.left else None


def quantized(made, folder, activation=QuantType.QUInt8):
    out = folder / "int8.onnx"
    quantize_static(
        made.save(folder / "float.onnx"), out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=activation, weight_type=QuantType.QInt8, extra_options={"WeightSymmetric": True},
    )  # fmt: skip
    return open_graph(out)


def distance(one, other):
    return float(np.abs(run(one)[0] - run(other)[0]).max())


def test_without_quantization_there_is_nothing_to_take_out():
    graph = plain().graph()
    assert not is_quantized(graph)
    assert to_float(graph) is None
    assert to_unsigned(graph) is None


def test_all_of_it_is_taken_out(tmp_path):
    made = plain(act="HardSwish")
    graph = quantized(made, tmp_path)
    rewrite = to_float(graph)
    assert is_quantized(graph)
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(ops(rewrite.model))
    assert not rewrite.exact
    exact = made.model()
    assert distance(rewrite.model, exact) < distance(graph.model, exact)


def test_around_a_node_the_rest_stays_quantized(tmp_path):
    made = Maker()
    made.conv(16)
    made.add("Relu")
    made.conv(16)
    made.add("HardSigmoid")
    made.conv(16)
    made.conv(16)
    made.head()
    graph = quantized(made, tmp_path)
    island = next(node.name for node in graph.nodes if node.op_type == "HardSigmoid")
    rewrite = to_float(graph, [island])
    left = Graph(name_nodes(rewrite.model))
    node = next(one for one in left.nodes if one.op_type == "HardSigmoid")
    assert left.producers[node.input[0]].op_type == "Conv"
    assert left.only_reader(node.output[0]).op_type == "Conv"
    assert is_quantized(left)
    assert len(rewrite.nodes) == 4
    assert distance(rewrite.model, graph.model) < 0.2


def test_signed_activations_become_unsigned_with_the_same_answer(tmp_path):
    graph = quantized(plain(), tmp_path, QuantType.QInt8)
    rewrite = to_unsigned(graph)
    points = [
        graph.constants[node.input[2]].dtype
        for graph in (Graph(rewrite.model),)
        for node in graph.nodes
        if node.op_type == "QuantizeLinear"
    ]
    assert points
    assert set(points) == {np.dtype(np.uint8)}
    assert distance(rewrite.model, graph.model) < 0.1
    assert to_unsigned(Graph(rewrite.model)) is None


@pytest.mark.parametrize("activation", [QuantType.QUInt8])
def test_unsigned_activations_are_left_alone(tmp_path, activation):
    assert to_unsigned(quantized(plain(), tmp_path, activation)) is None
