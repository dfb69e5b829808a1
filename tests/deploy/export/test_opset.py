"""Operator sets older than what torch writes: same answers, or a refusal that names the operator."""

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from onnx import TensorProto, defs, helper, numpy_helper
from torch import nn

from effxfer.deploy.export.external_data import write_model
from effxfer.deploy.export.logits import onnx_logits
from effxfer.deploy.export.onnx import export_onnx, load
from effxfer.deploy.export.opset import NATIVE, REWRITES, WIDENED, describe_excess, lower
from effxfer.deploy.export.parity import check
from effxfer.deploy.export.preprocessing import add_preprocessing
from effxfer.deploy.graph.graph import copy_model
from effxfer.deploy.int8.search import quantize
from effxfer.errors import ModelFileError
from effxfer.net.heads.prototypes import prototype_logits
from effxfer.runtime.model import Model
from tests.deploy import clock
from tests.deploy.graphs import FEED, Maker
from tests.tiny_net import CLASSES, PREPROCESS, images, tiny_net

IR = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8}
SIZE = 32
NETS = {
    "convolutions": tiny_net,
    "hard-swish": lambda: timm.create_model("mobilenetv3_small_050", num_classes=len(CLASSES)),
    "attention": lambda: timm.create_model("test_vit", num_classes=len(CLASSES), img_size=SIZE),
}


def export(net, file, opset):
    about = replace(PREPROCESS, size=SIZE)
    return export_onnx(net, file, input=about, classes=CLASSES, key="k1", opset=opset)


@pytest.fixture(scope="module")
def natives(tmp_path_factory):
    """Give a network of a kind, and its file as torch writes it; each is exported once."""

    @cache
    def made(name):
        torch.manual_seed(0)
        net = NETS[name]().eval()
        return net, export(net, tmp_path_factory.mktemp(name) / "model.onnx", NATIVE)

    return made


@pytest.fixture(params=NETS)
def native(request, natives):
    return natives(request.param)[1]


@pytest.fixture
def attention(natives, tmp_path):
    """A network of matrix products, and its file of operator set 13."""
    net, file = natives("attention")
    model = load(file)
    lower(model, 13)
    return net, write_model(model, tmp_path / "model.onnx")


# The way down to 13 passes through all others.
@pytest.mark.parametrize("opset", [pytest.param(one, marks=() if one == 13 else pytest.mark.slow) for one in IR])
def test_same_answers_in_every_older_operator_set(native, tmp_path, opset):
    model = load(native)
    lower(model, opset)
    file, pixels = write_model(model, tmp_path / "m.onnx"), images(7, size=SIZE)
    written = onnx.load(file)
    onnx.checker.check_model(written, full_check=True)
    assert [(o.domain, o.version) for o in written.opset_import] == [("", opset)]
    assert written.ir_version == IR[opset]
    kinds = {defs.get_schema(node.op_type, opset).name for node in written.graph.node}
    assert kinds == {node.op_type for node in written.graph.node}
    expected, got = onnx_logits(native, pixels, threads=1), onnx_logits(file, pixels, threads=1)
    assert np.abs(expected - got).max() <= 1e-5 * np.abs(expected).max()


def test_the_exported_file_passes_the_gate_and_is_vouched_for(attention):
    net, file = attention
    pixels, about = images(40, size=SIZE), replace(PREPROCESS, size=SIZE)
    labels = onnx_logits(file, pixels, threads=1).argmax(1)
    report = check(file, net, pixels, labels, about, tolerance=1e-5, threads=1)
    assert report["parity/agreement"].value == 100
    assert Model(file).labels == CLASSES
    model = load(file)
    assert (model.opset_import[0].version, model.ir_version) == (13, 7)


def test_an_operator_that_is_too_new_is_named_with_the_set_that_has_it(tmp_path):
    class Warped(nn.Module):
        def forward(self, x):
            grid = torch.stack([x[:, 0], x[:, 1]], -1)
            return nn.functional.grid_sample(x, grid, align_corners=False).mean((2, 3))

    with pytest.raises(ModelFileError, match=r"set 13 cannot express GridSample \(version 16, node \S+\)") as caught:
        export_onnx(Warped().eval(), tmp_path / "m.onnx", input=PREPROCESS, classes="abc", key="k", opset=13)
    assert (caught.value.code, caught.value.hint) == ("E431", "set opset=16 or later")
    assert list(tmp_path.iterdir()) == []


def built(plant, opset=NATIVE):
    made = Maker(opset=opset)
    made.conv(8)
    plant(made)
    return onnx.shape_inference.infer_shapes(made.model())


def run(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, FEED)[0]


def layer_norm(made):
    made.add("LayerNormalization", made.at, made.const(np.linspace(0.5, 1, 256).reshape(16, 16)), axis=2, epsilon=0.1)


def uneven_split(made):
    made.nodes.append(helper.make_node("Split", [made.at], ["a", "b", "c"], axis=1, num_outputs=3, name="split"))
    made.add("Concat", "c", "a", "b", axis=1)


def part_of_the_shape(made):
    made.add("Reshape", made.at, made.add("Concat", made.add("Shape", made.at, start=0, end=-2),
                                          made.const([256], np.int64), axis=0), allowzero=1)  # fmt: skip


def resized(made):
    made.add("Resize", made.at, "", made.const([1.0, 1.0, 2.0, 2.0]), mode="linear", antialias=0)


ALIKE = {
    "axes of a maximum": lambda made: made.add("ReduceMax", made.at, made.const([1], np.int64), keepdims=0),
    "all axes": lambda made: made.add("ReduceL2", made.at, keepdims=1),
    "batch norm": lambda made: made.batchnorm(),
    "layer norm": layer_norm,
    "mish": lambda made: made.add("Mish"),
    "padding": lambda made: made.add("Pad", made.at, made.const([0, 0, 1, 1] * 2, np.int64), made.const(0.5)),
    "resize": resized,
    "shape": part_of_the_shape,
    "split": uneven_split,
}


@pytest.mark.parametrize("opset", [13, 15, 17])
@pytest.mark.parametrize("name", ALIKE)
def test_what_is_written_otherwise_computes_the_same(name, opset):
    model = built(ALIKE[name])
    older = copy_model(model)
    lower(older, opset)
    onnx.checker.check_model(older, full_check=True)
    np.testing.assert_allclose(run(older), run(model), rtol=1e-5, atol=1e-5)
    read = {name for node in older.graph.node for name in node.input}
    assert {tensor.name for tensor in older.graph.initializer} <= read


def smoothed(made):
    made.add("Resize", made.at, "", made.const([1.0, 1.0, 0.5, 0.5]), mode="linear", antialias=1)


def small_numbers(made):
    codes = made.add("Cast", made.at, to=TensorProto.UINT8)
    made.add("Cast", made.add("Add", codes, codes), to=TensorProto.FLOAT)


def computed_axes(made):
    rank = made.add("Shape", made.add("Shape", "x"))
    made.add("ReduceMean", "t0", made.add("Sub", rank, made.const([1], np.int64)), keepdims=1)


def branches(made):
    def branch(name):
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node("ReduceMax", ["t0"], [name])], name, [], [value])

    yes = made.const(True, bool)
    made.add("If", yes, then_branch=branch("yes"), else_branch=branch("no"))


def empty_side(made):
    made.add("Reshape", made.add("Slice", made.at, *(made.const([n], np.int64) for n in (0, 0, 1))),
             made.const([0, 16, 16], np.int64), allowzero=1)  # fmt: skip


@pytest.mark.parametrize(
    ("plant", "opset", "operator", "works"),
    [
        (smoothed, 17, "Resize (version 18", 18),
        (small_numbers, 13, "Add (version 14", 14),
        (computed_axes, 13, "ReduceMean (version 18", 18),
        (branches, 17, "If (version 16", 18),
        (empty_side, 13, "Reshape (version 14", 14),
        (lambda made: made.add("Trilu"), 13, "Trilu (version 14", 14),
    ],
)
def test_what_would_mean_something_else_is_refused(plant, opset, operator, works):
    model = built(plant)
    before = model.SerializeToString()
    with pytest.raises(ModelFileError) as caught:
        lower(model, opset)
    assert f"operator set {opset} cannot express {operator}" in caught.value.problem
    assert (caught.value.code, caught.value.hint) == ("E431", f"set opset={works} or later")
    assert model.SerializeToString() == before
    if works < NATIVE:
        lower(model, works)
        onnx.checker.check_model(model, full_check=True)


def test_older_than_all_that_is_known():
    with pytest.raises(ModelFileError, match="no way to operator set 12") as caught:
        lower(built(lambda made: made.add("Relu")), 12)
    assert caught.value.code == "E426"


@pytest.mark.parametrize("op", sorted(WIDENED - REWRITES.keys()))
def test_what_is_relabelled_only_got_more(op):
    """Attributes that came later have a default or may be left out, and none went."""
    old, new = defs.get_schema(op, 13), defs.get_schema(op, NATIVE)
    assert old.attributes.keys() <= new.attributes.keys()
    assert not [name for name in new.attributes.keys() - old.attributes.keys() if new.attributes[name].required]
    assert old.min_input == new.min_input
    for before, after in zip(old.inputs, new.inputs, strict=False):
        assert set(before.types) <= set(after.types)


def test_int8_stays_in_the_operator_set(attention, tmp_path):
    _, fp32 = attention
    pixels = images(40, size=SIZE)
    labels = onnx_logits(fp32, pixels, threads=1).argmax(1)
    out, report = quantize(
        fp32, tmp_path / "int8.onnx", calibration=pixels[:8], rows=pixels, labels=labels, max_drop=100.0,
        recipes=["dynamic", "u8s8-heavy", "weights"], threads=1,
        compare=lambda runners, **_: [clock.timing(n, *([1.0 if n == "fp32" else 0.5] * 2)) for n in runners],
    )  # fmt: skip
    verdicts = {row["recipe"]: row["verdict"] for row in report.tables[0].rows}
    assert verdicts["weights"] == "rejected: it needs operator set 21, not 13"
    assert "kept" in {verdicts["dynamic"], verdicts["u8s8-heavy"]}
    model = load(out)
    assert {o.domain or "ai.onnx": o.version for o in model.opset_import}["ai.onnx"] == 13
    assert model.ir_version == 7
    assert not {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    onnx.checker.check_model(model, full_check=True)


def test_a_file_that_left_its_operator_set_is_told():
    model = built(lambda made: made.add("Relu"))
    assert describe_excess(model, 13) == "it needs operator set 18, not 13"
    model.opset_import[0].version = 13
    assert describe_excess(model, 13) == "it needs IR version 10, operator set 13 came with 7"
    model.ir_version = 7
    assert describe_excess(model, 13) == ""
    model.opset_import[0].version = 21
    assert describe_excess(model, 20) == ""


def test_preprocessing_inside_needs_a_newer_one(attention):
    file = attention[1]
    before = file.read_bytes()
    with pytest.raises(ModelFileError, match="is of operator set 13, images can be resized inside from 18 on"):
        add_preprocessing(file)
    assert file.read_bytes() == before


def test_weights_are_the_same_numbers(native):
    model, older = load(native), load(native)
    lower(older, 13)
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    kept = {t.name: numpy_helper.to_array(t) for t in older.graph.initializer}
    assert weights.keys() <= kept.keys()
    assert all(np.array_equal(values, kept[name]) for name, values in weights.items())


def test_prototypes_are_still_an_input_that_need_not_be_given(tmp_path):
    class Near(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Mish(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

        def forward(self, x, prototypes):
            features = self.body(x)
            return prototype_logits(features, prototypes, "cosine"), features

    torch.manual_seed(0)
    net, own, other = Near().eval(), torch.randn(len(CLASSES), 8), torch.randn(3, 8)
    file = export_onnx(
        net, tmp_path / "m.onnx", input=PREPROCESS, classes=CLASSES, key="k", opset=13, prototypes=own
    )  # fmt: skip
    model = load(file)
    assert (model.opset_import[0].version, model.ir_version) == (13, 7)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    x = torch.randn(2, 3, 16, 16)
    for prototypes, feed in ((own, {}), (other, {"prototypes": other.numpy()})):
        expected = [one.detach().numpy() for one in net(x, prototypes)]
        for mine, theirs in zip(session.run(None, {"images": x.numpy(), **feed}), expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)
