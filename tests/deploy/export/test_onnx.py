import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from effxfer import __version__
from effxfer.deploy.export import onnx as exporter
from effxfer.deploy.export.image_sizes import second_size
from effxfer.deploy.export.logits import onnx_logits, torch_logits
from effxfer.deploy.export.onnx import BATCH, _messages, export_onnx, load, read_metadata, strip
from effxfer.deploy.export.parity import check
from effxfer.errors import ModelFileError
from effxfer.runtime.model import Model
from effxfer.runtime.outputs.regression import Regression
from tests.tiny_net import CLASSES, PREPROCESS, TinyNet, images, tiny_net


def export(module, file, classes=CLASSES, **more):
    return export_onnx(module, file, input=PREPROCESS, classes=classes, key="k1", **more)


def test_one_file_with_named_axes_and_the_asked_operator_set(exported):
    model = load(exported)
    assert [p.name for p in exported.parent.iterdir()] == ["model.onnx"]
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"images": [BATCH, 3, 16, 16], "logits": [BATCH, len(CLASSES)]}
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]


def test_batch_norms_are_folded(exported):
    kinds = {node.op_type for node in load(exported).graph.node}
    assert "BatchNormalization" not in kinds
    assert "Conv" in kinds


def test_no_trace_of_this_machine(exported):
    content = exported.read_bytes()
    here = (str(Path.cwd()), str(Path.home()), sys.prefix, "site-packages", __file__, "stack_trace", "pkg.torch")
    assert [text for text in here if text.encode() in content and text != "/"] == []


def test_metadata_are_read_back(exported):
    about = read_metadata(exported)
    assert about.labels == CLASSES
    assert about.input == PREPROCESS
    assert (about.key, about.version, about.precision, about.extra) == ("k1", __version__, "fp32", {"task": "toys"})


def test_same_bytes_again(net, exported, tmp_path):
    again = export(net, tmp_path / "m.onnx", extra={"task": "toys"})
    assert again.read_bytes() == exported.read_bytes()


def test_exporter_says_nothing(net, tmp_path, capfd):
    export(net, tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")


def test_module_is_left_as_it_was(tmp_path):
    net = tiny_net()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    export(net, tmp_path / "m.onnx")
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert set(before) == set(net.state_dict())
    assert net.stem[2].inplace


@pytest.mark.parametrize("opset", [18, 23])
def test_other_operator_sets(net, pixels, tmp_path, opset):
    file = export(net, tmp_path / "m.onnx", opset=opset)
    assert load(file).opset_import[0].version == opset
    np.testing.assert_allclose(onnx_logits(file, pixels[:3]), torch_logits(net, pixels[:3], PREPROCESS), atol=1e-4)


def test_an_operator_set_that_the_exporter_silently_changes(net, tmp_path, monkeypatch):
    convert = exporter.convert
    monkeypatch.setattr(exporter, "convert", lambda net, put, _, *a, **more: convert(net, put, 18, *a, **more))
    with pytest.raises(ModelFileError, match="asked for operator set 23, the exporter wrote 18"):
        export(net, tmp_path / "m.onnx", opset=23)
    assert list(tmp_path.iterdir()) == []


def test_training_mode_is_refused(tmp_path):
    net = tiny_net()
    net.pointwise[1].train()
    with pytest.raises(ModelFileError, match=r"pointwise\.1 is in training mode") as caught:
        export(net, tmp_path / "m.onnx")
    assert caught.value.code == "E430"


@pytest.mark.parametrize(("tensor", "value"), [("head.weight", "nan"), ("stem.1.running_var", "inf")])
def test_broken_weights_are_named_and_the_older_file_stays(tmp_path, tensor, value):
    old = tmp_path / "m.onnx"
    old.write_bytes(b"older")
    net = tiny_net()
    net.state_dict()[tensor].view(-1)[0] = float(value)
    with pytest.raises(ModelFileError, match=f"NaN or inf in {tensor}") as caught:
        export(net, old)
    assert caught.value.code == "E407"
    assert old.read_bytes() == b"older"


def test_one_output_per_class(net, tmp_path):
    with pytest.raises(ModelFileError, match="'batch', 5") as caught:
        export(net, tmp_path / "m.onnx", classes=("a", "b"))
    assert caught.value.code == "E406"


class OneImageOnly(TinyNet):
    def forward(self, x):
        return super().forward(x).reshape(2, 5)


class Unknown(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x[:, 0]).real[:, :5]


@pytest.mark.parametrize("module", [OneImageOnly().eval(), Unknown().eval()])
def test_what_cannot_be_exported_is_a_named_error(module, tmp_path, capfd):
    with pytest.raises(ModelFileError) as caught:
        export(module, tmp_path / "m.onnx")
    assert caught.value.code == "E426"
    assert capfd.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_pruned_weights_stay_zero(tmp_path):
    net = tiny_net()
    with torch.no_grad():
        net.pointwise[0].weight[:, ::2] = 0
        net.head.weight[1] = 0
    model = load(export(net, tmp_path / "m.onnx"))
    arrays = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer]
    kernel = next(a for a in arrays if a.shape == (8, 8, 1, 1))
    assert not kernel[:, ::2].any()
    assert kernel[:, 1::2].all()
    assert any(a.shape == (5, 8) and not a[1].any() for a in arrays)


def test_free_sides(net, tmp_path):
    file = export(net, tmp_path / "m.onnx", dynamic_size=True)
    sides = load(file).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in sides] == [BATCH, 3, "height", "width"]
    pixels = images(3, size=64)
    assert Model(file).pixels(pixels[0]).shape == (16, 16, 3), "its own size is still what images are resized to"
    report = check(file, net, pixels[:, :16, :16], np.zeros(3, int), PREPROCESS, sizes=[(48, 64)], max_drop=100)
    assert report["parity/size48x64"].value < 1e-4
    assert report["parity/size48x64"].n == 3


class SquareOnly(TinyNet):
    def forward(self, x):
        return super().forward(x.reshape(-1, 3, 16, 16))


def test_sides_that_the_network_needs_cannot_be_free():
    assert second_size(tiny_net(), PREPROCESS) == (48, 80)
    for module, why in ((SquareOnly(), "it gives 15 answers for one"), (Fixed(), "mat1 and mat2 shapes")):
        with pytest.raises(ModelFileError, match=f"does not take images of 48 x 80: {why}") as caught:
            second_size(module.eval(), PREPROCESS)
        assert caught.value.code == "E426"


def test_layers_that_pad_by_the_size_of_what_they_get_are_named():
    net = tiny_net()
    net.stem[0] = Conv2dSame(3, 8, 3, 2)
    with pytest.raises(ModelFileError, match=r"stem\.0 and 0 more layers pad by the size"):
        second_size(net, PREPROCESS)


class Fixed(TinyNet):
    def forward(self, x):
        return super().forward(x) + nn.functional.linear(x.flatten(1), torch.ones(5, 3 * 16 * 16))


class Folded(nn.Module):
    """A batch norm whose variance is so small that folding it into the convolution gives an infinity."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5, eps=0.0)
        self.conv.weight.data.fill_(1e30)
        self.norm.running_var.fill_(1e-38)

    def forward(self, x):
        return self.norm(self.conv(x)).mean((2, 3))


def test_infinities_that_folding_made_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"NaN or inf in .* as it was written") as caught:
        export(Folded().eval(), tmp_path / "m.onnx")
    assert caught.value.code == "E407"
    assert list(tmp_path.iterdir()) == []


def test_strip_reaches_subgraphs():
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"], doc_string="/home/me")], "g", [], []
    )
    branch = onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    model = onnx.helper.make_model(onnx.helper.make_graph([branch], "g", [], []))
    onnx.helper.set_model_props(model, {"where": "/home/me"})
    assert any(b"/home/me" in m.SerializeToString() for m in _messages(model))
    strip(model)
    assert b"/home/me" not in model.SerializeToString()
    assert model.graph.node[0].attribute[0].g.node[0].op_type == "Identity"


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", None])
def test_what_is_not_a_model_is_named(tmp_path, content):
    file = tmp_path / "m.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        read_metadata(file)
    assert caught.value.code == "E424"


def test_a_foreign_file_has_no_metadata(exported, tmp_path):
    model = load(exported)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match="has no effxfer metadata") as caught:
        read_metadata(tmp_path / "m.onnx")
    assert caught.value.code == "E428"


def test_a_network_of_texts_has_one_input_with_free_batch_and_length_and_its_tokenizer_beside_it(text_net, text_file):
    graph = load(text_file).graph
    shapes = {
        v.name: (v.type.tensor_type.elem_type, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
        for v in (*graph.input, *graph.output)
    }
    assert shapes == {
        "ids": (onnx.TensorProto.INT64, [BATCH, "length"]),
        "logits": (onnx.TensorProto.FLOAT, [BATCH, 3]),
    }
    assert sorted(file.name for file in text_file.parent.iterdir()) == ["model.onnx", "tokenizer.json"]
    metadata = read_metadata(text_file)
    assert (metadata.input, metadata.output) == (text_net.input, text_net.output)


def test_what_the_columns_are_is_read_back(net, tmp_path):
    output = Regression(classes=CLASSES, mean=(0.5,) * len(CLASSES), deviation=(2.0,) * len(CLASSES))
    file = export_onnx(net, tmp_path / "m.onnx", input=PREPROCESS, output=output, key="k1")
    assert read_metadata(file).output == output


def test_a_file_of_texts_is_not_written_beside_another_tokenizer(text_net, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelFileError, match="belongs to another model"):
        export_onnx(text_net, tmp_path / "m.onnx", input=text_net.input, output=text_net.output, key="k1")
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]
