import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import numpy_helper
from torch import nn

from effxfer.deploy.export.logits import onnx_logits
from effxfer.deploy.export.onnx import export_onnx, load, read_metadata, write_metadata
from effxfer.deploy.int8.candidate import make_candidate, suitable_recipes
from effxfer.deploy.int8.dynamic import BLOCK, round_in_blocks
from effxfer.deploy.int8.recipes import AUTO, DEFAULT, RECIPES, Recipe
from effxfer.deploy.int8.static import Feeds, prepare
from effxfer.errors import ModelFileError
from tests.tiny_net import CLASSES, PREPROCESS, images

FEEDS = Feeds(name="images", rows=images(32), input=PREPROCESS)
CONVOLUTIONS = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
)


class Tokens(nn.Module):
    """Patches as tokens, and matrix products on them, of which two thirds of the weights are zero."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patch = nn.Conv2d(3, 32, 4, 4)
        self.one, self.two, self.head = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, len(CLASSES))
        with torch.no_grad():
            for layer in (self.one, self.two):
                layer.weight.view(-1)[torch.arange(layer.weight.numel()) % 3 > 0] = 0

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        return self.head((x + self.two(torch.relu(self.one(x)))).mean(1))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    file = export_onnx(Tokens().eval(), folder / "m.onnx", input=PREPROCESS, classes=CLASSES, key="")
    return prepare(file, folder / "prepared.onnx"), file


def logits(file, about):
    model = load(file)
    write_metadata(model, about)
    file.write_bytes(model.SerializeToString())
    return onnx_logits(file, FEEDS.rows, threads=1)


@pytest.mark.parametrize("name", ["dynamic", "dynamic-7bit", "weights"])
def test_answers_nearly_as_before_and_zeros_stay(tokens, tmp_path, name):
    prepared, fp32 = tokens
    none = Feeds(name="images", rows=images(0), input=PREPROCESS)
    file = make_candidate(prepared, tmp_path / "c.onnx", RECIPES[name], none)
    exact, got = onnx_logits(fp32, FEEDS.rows, threads=1), logits(file, read_metadata(fp32))
    saturating = name == "dynamic"
    assert 0 < np.abs(exact - got).max() < (0.3 if saturating else 0.03) * np.abs(exact).max()
    codes = [numpy_helper.to_array(t) for t in load(file).graph.initializer if list(t.dims) in ([32, 64], [64, 32])]
    assert len(codes) == 2
    for matrix in codes:
        assert matrix.dtype == np.int8
        assert (matrix == 0).mean() > 0.66
        assert np.abs(matrix.astype(int)).max() <= (64 if name.endswith("7bit") else 127)


def test_plain_onnx_only(tokens, tmp_path):
    for name in ("dynamic", "weights"):
        model = load(make_candidate(tokens[0], tmp_path / f"{name}.onnx", RECIPES[name], FEEDS))
        assert {node.domain for node in model.graph.node} == {""}


@pytest.mark.parametrize("name", ["dynamic", "weights"])
def test_layers_left_in_float(tokens, tmp_path, name):
    matrices = [node.name for node in load(tokens[0]).graph.node if node.op_type == "MatMul"]
    file = make_candidate(tokens[0], tmp_path / "c.onnx", RECIPES[name], FEEDS, matrices[:1])
    kinds = [t.data_type for t in load(file).graph.initializer if list(t.dims) in ([32, 64], [64, 32])]
    assert sorted(kinds) == [1, 3]
    with pytest.raises(ModelFileError, match="no matrix product with weights"):
        make_candidate(tokens[0], tmp_path / "c.onnx", RECIPES[name], FEEDS, matrices)


@given(arrays(np.float32, (2 * BLOCK, 3), elements=st.floats(-1e3, 1e3, width=32)))
def test_blocks_are_rounded_to_the_nearest_code(weight):
    codes, scale = round_in_blocks(weight)
    assert scale.shape == (2, 3)
    back = codes.astype(np.float32) * np.repeat(scale, BLOCK, axis=0)
    assert (np.abs(back - weight) <= 0.5001 * np.repeat(scale, BLOCK, axis=0) + 1e-30).all()
    assert (codes[weight == 0] == 0).all()


def test_recipes_that_suit_the_network(tokens, exported, tmp_path):
    depthwise = load(prepare(exported, tmp_path / "a.onnx")).graph
    plain = export_onnx(CONVOLUTIONS.eval(), tmp_path / "m.onnx", input=PREPROCESS, classes=CLASSES, key="")
    assert suitable_recipes(load(tokens[0]).graph, DEFAULT) == AUTO["linear"]
    assert suitable_recipes(depthwise, DEFAULT) == AUTO["depthwise"]
    assert suitable_recipes(load(prepare(plain, tmp_path / "b.onnx")).graph, DEFAULT) == AUTO["convolutions"]
    assert suitable_recipes(depthwise, ("u8s8",)) == ("u8s8",)


def test_one_scale_per_tensor(exported, tmp_path):
    prepared = prepare(exported, tmp_path / "prepared.onnx")
    graph = load(make_candidate(prepared, tmp_path / "c.onnx", Recipe(per_channel=False), FEEDS)).graph
    held = {t.name: t for t in graph.initializer}
    made = {n.output[0]: n for n in graph.node if n.op_type == "DequantizeLinear"}
    scales = [held[made[n.input[1]].input[1]] for n in graph.node if n.op_type == "Conv"]
    assert [list(scale.dims) for scale in scales] == [[], [], []]


def test_only_some_operators(exported, tmp_path):
    prepared = prepare(exported, tmp_path / "prepared.onnx")
    graph = load(make_candidate(prepared, tmp_path / "c.onnx", RECIPES["u8s8-heavy"], FEEDS)).graph
    made = {n.output[0]: n for n in graph.node}
    sums = [n for n in graph.node if n.op_type == "Add"]
    quantized = [n for n in graph.node if n.op_type == "QuantizeLinear" and made.get(n.input[0]) in sums]
    assert quantized == []


def test_equalized_and_plain_ranges_are_kept_apart(exported, tmp_path):
    prepared = prepare(exported, tmp_path / "prepared.onnx")
    before = prepared.read_bytes()
    for name in ("u8s8-equal", "u8s8-stem", "u8s8-equal-7bit"):
        make_candidate(prepared, tmp_path / f"{name}.onnx", RECIPES[name], FEEDS)
    assert prepared.read_bytes() == before
    assert (tmp_path / "equalized" / "minmax.json").read_text() != (tmp_path / "minmax.json").read_text()


def test_nothing_to_equalize_is_said(tokens, tmp_path):
    with pytest.raises(ModelFileError, match="no two convolutions"):
        make_candidate(tokens[0], tmp_path / "c.onnx", RECIPES["u8s8-equal"], FEEDS)
