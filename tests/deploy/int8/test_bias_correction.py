import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from effxfer.deploy.export.logits import onnx_logits
from effxfer.deploy.export.onnx import export_onnx, load, read_metadata, write_metadata
from effxfer.deploy.int8.activation_ranges import measure_activations
from effxfer.deploy.int8.bias_correction import correct_biases, shift
from effxfer.deploy.int8.recipes import Recipe
from effxfer.deploy.int8.static import Feeds, prepare, write_candidate
from tests.tiny_net import CLASSES, PREPROCESS, images

FEEDS = Feeds(name="images", rows=images(64), input=PREPROCESS)


@pytest.fixture(scope="module")
def prepared(exported, tmp_path_factory):
    return prepare(exported, tmp_path_factory.mktemp("bias") / "prepared.onnx")


def node(kind, **attributes):
    return helper.make_node(kind, ["x", "w", "b"], ["y"], **attributes)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_shift_is_what_a_convolution_of_the_mean_gives(groups):
    rng = np.random.default_rng(0)
    error, mean = rng.standard_normal((8, 4 // groups, 3, 3)), rng.standard_normal(4)
    found = shift(error, mean, node("Conv", group=groups))
    for out in range(8):
        group = out // (8 // groups)
        part = mean[group * (4 // groups) : (group + 1) * (4 // groups)]
        assert found[out] == pytest.approx((error[out] * part[:, None, None]).sum())


def test_shift_of_products():
    error, mean = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([10.0, 1.0])
    assert shift(error, mean, node("MatMul")).tolist() == [14, 25, 36]
    assert shift(error.T, mean, node("Gemm", transB=1)).tolist() == [14, 25, 36]


def test_observed_means_and_maxima_are_those_of_the_images(prepared):
    model = load(prepared)
    few = Feeds(name="images", rows=images(10), input=PREPROCESS, batch=5)
    seen = measure_activations(model, ["images", model.graph.node[0].output[0], "absent"], few)
    everything = few.feed(0, 10)["images"]
    assert seen.keys() == {"images", model.graph.node[0].output[0]}
    np.testing.assert_allclose(seen["images"].mean, everything.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(seen["images"].largest, np.abs(everything).max((0, 2, 3)))
    assert seen[model.graph.node[0].output[0]].mean.shape == (8,)


def logit_bias(file, about, exact):
    model = load(file)
    write_metadata(model, about)
    file.write_bytes(model.SerializeToString())
    return np.abs((onnx_logits(file, FEEDS.rows, threads=1) - exact).mean(0)).mean()


def test_claim_correction_takes_the_mean_error_away(tmp_path):
    """With weights rounded down in 15 coarse steps, the mean error of logits falls to a tenth or less."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).eval()
    exported = export_onnx(net, tmp_path / "m.onnx", input=PREPROCESS, classes=CLASSES, key="")
    exact = onnx_logits(exported, FEEDS.rows, threads=1)
    prepared, about = prepare(exported, tmp_path / "prepared.onnx"), read_metadata(exported)
    model, coarse = load(prepared), load(prepared)
    for tensor in coarse.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 4:
            step = np.abs(values).max() / 7
            tensor.CopyFrom(numpy_helper.from_array((np.floor(values / step) * step).astype(np.float32), tensor.name))
    prepared.write_bytes(coarse.SerializeToString())
    file = write_candidate(prepared, tmp_path / "q.onnx", Recipe(reduce_range=True), FEEDS, tmp_path)
    quantized = load(file)
    before = logit_bias(file, about, exact)
    assert correct_biases(quantized, model, FEEDS) == 2
    file.write_bytes(quantized.SerializeToString())
    assert logit_bias(file, about, exact) < before / 10


def test_weights_are_not_touched(prepared, tmp_path):
    file = write_candidate(prepared, tmp_path / "q.onnx", Recipe(reduce_range=True), FEEDS, tmp_path)
    before, after = load(file), load(file)
    changed = correct_biases(after, load(prepared), FEEDS)
    held = [{t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (before, after)]
    different = [n for n, v in held[0].items() if not np.array_equal(v, held[1][n])]
    assert 0 < len(different) <= changed == 4
    assert {held[0][n].dtype.name for n in different} == {"int32"}
    assert before.graph.node == after.graph.node


def test_layers_in_float_are_left(prepared):
    model = load(prepared)
    before = model.SerializeToString()
    assert correct_biases(model, load(prepared), FEEDS) == 0
    assert model.SerializeToString() == before


def test_nothing_asked_nothing_observed(prepared):
    assert measure_activations(load(prepared), [], FEEDS) == {}
