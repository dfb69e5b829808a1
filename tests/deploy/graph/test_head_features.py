import numpy as np
import onnx
import torch
from onnxruntime.quantization import quantize_dynamic

from effxfer.deploy.graph.graph import Graph
from effxfer.deploy.graph.head_features import features_tensor, head_features
from effxfer.runtime.model import Model
from tests.deploy.graphs import Maker


def test_they_are_those_of_the_network_and_give_its_logits(exported, net):
    rows = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8)
    model = Model(exported)
    images, features = torch.from_numpy(model.input.feed(rows)), torch.from_numpy(head_features(exported, rows, 5))
    seen = []
    handle = net.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        net(images)
    handle.remove()
    assert torch.allclose(features, seen[0], atol=1e-4)
    assert np.allclose(net.head(features).detach(), model.logits(rows), atol=1e-3)


def test_of_a_quantized_graph_they_are_what_is_quantized_last(tmp_path):
    made = Maker()
    made.conv(8)
    made.head()
    plain = made.model()
    onnx.save(plain, tmp_path / "plain.onnx")
    quantize_dynamic(tmp_path / "plain.onnx", tmp_path / "int8.onnx")
    int8 = onnx.load(tmp_path / "int8.onnx")
    assert "MatMulInteger" in {node.op_type for node in int8.graph.node}
    assert features_tensor(Graph(int8)) == features_tensor(Graph(plain)) == plain.graph.node[-1].input[0]


def test_a_graph_without_a_product_has_none():
    made = Maker()
    made.add("Relu")
    assert features_tensor(Graph(made.model())) is None
