import numpy as np
import pytest
import torch
from torch import nn

from effxfer.deploy.export.logits import onnx_outputs
from effxfer.deploy.export.module import check_outputs, export_module
from effxfer.deploy.export.onnx import load, read_metadata
from effxfer.deploy.export.parity import REJECTED
from effxfer.errors import GateError, ModelFileError
from effxfer.runtime.model import Model
from tests.tiny_net import CLASSES, PREPROCESS, images, tiny_net


def perceptron(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3)).eval()


def rows(n=5):
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(3))


def test_a_module_of_any_input_becomes_a_file_that_answers_like_it(tmp_path):
    net = perceptron()
    report = export_module(net, tmp_path / "net.onnx", rows(), names=("table", "scores"))
    assert [row.name for row in report.rows] == [
        "parity/batch1", "parity/batch2", "parity/batch7", "parity/example", "parity/scale",
    ]  # fmt: skip
    graph = load(tmp_path / "net.onnx").graph
    assert (graph.input[0].name, graph.output[0].name) == ("table", "scores")
    found = onnx_outputs(tmp_path / "net.onnx", rows(40).numpy())
    np.testing.assert_allclose(found, net(rows(40)).detach().numpy(), atol=1e-5)


def test_one_row_is_example_enough(tmp_path):
    export_module(perceptron(), tmp_path / "net.onnx", rows(1))
    assert len(onnx_outputs(tmp_path / "net.onnx", rows(3).numpy())) == 3


def test_with_classes_and_preprocessing_the_runtime_opens_it(tmp_path):
    net, file = tiny_net(), tmp_path / "net.onnx"
    export_module(net, file, torch.rand(2, 3, 16, 16), classes=CLASSES, input=PREPROCESS)
    assert read_metadata(file).labels == CLASSES
    assert Model(file).logits(images(2)).shape == (2, len(CLASSES))


def test_older_operator_sets_are_written(tmp_path):
    export_module(perceptron(), tmp_path / "net.onnx", rows(), opset=15)
    assert {o.version for o in load(tmp_path / "net.onnx").opset_import} == {15}


def test_a_file_of_another_network_is_renamed(tmp_path):
    file = tmp_path / "net.onnx"
    export_module(perceptron(), file, rows())
    with pytest.raises(GateError, match="differs from the module"):
        check_outputs(file, perceptron(seed=1), rows())
    assert [path.name for path in tmp_path.iterdir()] == [f"net.onnx{REJECTED}"]


@pytest.mark.parametrize(
    ("spoil", "code"),
    [(lambda net: net.train(), "E430"), (lambda net: net[0].weight.data.fill_(float("nan")), "E407")],
)
def test_what_cannot_be_exported_is_refused(spoil, code, tmp_path):
    net = perceptron()
    spoil(net)
    with pytest.raises(ModelFileError) as caught:
        export_module(net, tmp_path / "net.onnx", rows())
    assert caught.value.code == code
    assert not list(tmp_path.iterdir())


def test_arrays_that_a_file_does_not_take_are_refused(tmp_path):
    export_module(perceptron(), tmp_path / "net.onnx", rows())
    with pytest.raises(ModelFileError, match="cannot run on float32"):
        onnx_outputs(tmp_path / "net.onnx", np.zeros((2, 5), np.float32))


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match="refuses"):
        onnx_outputs(tmp_path / "net.onnx", rows().numpy())
