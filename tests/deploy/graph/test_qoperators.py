import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

from effxfer.deploy.graph.dequantize import to_float
from effxfer.deploy.graph.graph import Graph, name_nodes
from effxfer.deploy.graph.qoperators import dynamic_to_float, quantized_operators, to_qdq
from tests.deploy.diagnose.test_model_report import Reader
from tests.deploy.graphs import FEED, Maker, ops, plain, run


def made():
    """Convolutions with a residual, pooling between, and a linear layer."""
    maker = Maker()
    maker.conv(16)
    maker.add("Relu")
    before = maker.add("MaxPool", maker.at, kernel_shape=[2, 2], strides=[2, 2])
    maker.conv(16)
    maker.add("Add", maker.at, before)
    maker.conv(16, groups=16)
    maker.head()
    return maker


def graph(file):
    return Graph(name_nodes(onnx.load(file)))


@pytest.fixture
def static(tmp_path):
    def make(kind=QuantType.QInt8, per_channel=False):
        file, out = made().save(tmp_path / "f.onnx"), tmp_path / "q.onnx"
        quantize_static(
            file, out, Reader(FEED), quant_format=QuantFormat.QOperator, activation_type=kind, per_channel=per_channel,
            reduce_range=True,  # with 8 bits, sums of the one or the other saturate on x86 without VNNI
        )  # fmt: skip
        return graph(out)

    return make


def outputs(model):
    return run(model)[0]


@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_qdq_nodes_answer_as_the_operators_do(static, kind, per_channel):
    before = static(kind, per_channel)
    after = to_qdq(before)
    assert "QLinearConv" in quantized_operators(before)
    assert quantized_operators(Graph(after.model)) == []
    assert not any(node.domain == "com.microsoft" for node in after.model.graph.node)
    step = np.ptp(outputs(before.model)) / 50
    np.testing.assert_allclose(outputs(after.model), outputs(before.model), atol=step)
    assert len(after.nodes) == sum(node.op_type in quantized_operators(before) for node in before.nodes)


def test_without_quantization_it_answers_nearly_as_the_float_file(static):
    floats = to_float(Graph(to_qdq(static()).model))
    assert not any("Quantize" in op for op in ops(floats.model))
    assert "Relu" in ops(floats.model), "it had become a part of the rounding"
    exact = outputs(made().model())
    assert np.abs(outputs(floats.model) - exact).max() < 0.05 * np.ptp(exact)


@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8])
def test_a_dynamic_file_becomes_float(tmp_path, kind):
    quantize_dynamic(plain(16).save(tmp_path / "f.onnx"), tmp_path / "d.onnx", weight_type=kind)
    before = graph(tmp_path / "d.onnx")
    after = dynamic_to_float(before)
    assert quantized_operators(before) == ["ConvInteger", "MatMulInteger"]
    assert set(ops(after.model)) & {"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "Cast"} == set()
    exact = outputs(plain(16).model())
    assert np.abs(outputs(after.model) - exact).max() < 0.05 * np.ptp(exact)


def test_other_files_are_left_alone(static):
    plain_graph = Graph(name_nodes(plain(16).model()))
    assert (quantized_operators(plain_graph), to_qdq(plain_graph), dynamic_to_float(plain_graph)) == ([], None, None)
    assert dynamic_to_float(static()) is None
    old = static()
    old.model.opset_import[0].version = 12
    assert to_qdq(Graph(old.model)) is None


def test_a_scale_that_is_computed_is_not_guessed(static):
    before = static().model
    scale = next(node for node in before.graph.node if node.op_type == "QLinearConv").input[1]
    value = next(tensor for tensor in before.graph.initializer if tensor.name == scale)
    before.graph.initializer.remove(value)
    before.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(value), "half"))
    before.graph.node.insert(0, helper.make_node("Abs", ["half"], [scale]))
    assert to_qdq(Graph(name_nodes(before))) is None
