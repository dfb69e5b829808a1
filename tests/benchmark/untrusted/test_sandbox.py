"""Files that behave on zeros and not on images: whatever they do, they do it in a process of its own."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from typer.testing import CliRunner

from effxfer.benchmark.untrusted.sandbox import call_in_sandbox, positive_setting
from effxfer.cli.app import app
from effxfer.deploy.diagnose.model_report import examine
from effxfer.deploy.export.onnx import export_onnx, write_metadata
from effxfer.errors import DataError, ModelFileError, SettingsError
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.model_file.metadata import Metadata
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.predict import predict_files
from effxfer.stages.deliver.bench import bench_files
from effxfer.stages.settings.common import Bench
from tests.tiny_net import CLASSES, PREPROCESS, images, tiny_net

PREDICT = "effxfer.runtime.predict:predict_files"
HANGS, GROWS = (2**62, "Identity", 1), (40, "Concat", 2)


def planted(file, often, grow, times):
    """A classifier that starts a loop where an input is not zero: endless, or one that doubles a tensor."""
    info, long = helper.make_tensor_value_info, TensorProto.INT64
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node(grow, ["held"] * times, ["more"], **({"axis": 0} if grow == "Concat" else {})),
        ],
        "body",
        [info("i", long, []), info("go", TensorProto.BOOL, []), info("held", TensorProto.FLOAT, None)],
        [info("on", TensorProto.BOOL, []), info("more", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Abs", ["images"], ["sizes"]),
        helper.make_node("ReduceMax", ["sizes"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "zero"], ["seen"]),
        helper.make_node("Loop", ["often", "seen", "start"], ["grown"], body=body),
        helper.make_node("ReduceMin", ["grown"], ["least"], keepdims=0),
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["scores"]),
        helper.make_node("Add", ["scores", "least"], ["logits"]),
    ]
    held = {
        "zero": np.float32(0), "often": np.int64(often), "start": np.zeros(1000, np.float32),
        "weights": np.ones((12, 2), np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [info("images", TensorProto.FLOAT, ["n", 3, 2, 2])], [info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    write_metadata(model, Metadata(output=SingleLabel(classes=("a", "b")), input=Preprocess(size=2)))
    onnx.save(model, file)
    return file


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(images(1, size=40)[0]).save(tmp_path / "p.png")
    return tmp_path / "p.png"


@pytest.fixture
def patience(monkeypatch):
    monkeypatch.setenv("EFFXFER_FOREIGN_SECONDS", "8")
    monkeypatch.setenv("EFFXFER_FOREIGN_GB", "2")


# All three call `call_in_sandbox`, and wait for its limits.
@pytest.mark.parametrize(
    "command", ["predict", *(pytest.param(c, marks=pytest.mark.slow) for c in ("doctor", "bench"))]
)
@pytest.mark.parametrize(("kind", "said"), [(HANGS, "did not end within"), (GROWS, "takes more than 2.0 GB of memory")])
def test_what_starts_on_images_alone_is_stopped(tmp_path, photo, patience, command, kind, said):
    file = planted(tmp_path / "m.onnx", *kind)
    with pytest.raises(ModelFileError) as caught:
        if command == "predict":
            CliRunner().invoke(app, ["predict", str(file), str(photo)], catch_exceptions=False)
        elif command == "doctor":
            examine(file, max_seconds=0.2)
        else:
            bench_files({"m": file}, Bench(max_seconds=0.2, cold=0, runtimes=()))
    assert (caught.value.code, said in caught.value.problem) == ("E427", True), caught.value.problem
    assert str(file) in caught.value.problem


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    target = tmp_path_factory.mktemp("model") / "model.onnx"
    return export_onnx(tiny_net(), target, input=PREPROCESS, classes=CLASSES, key="k1")


def test_it_gives_what_the_function_gives(exported, photo, tmp_path):
    asked = {"file": str(exported), "images": [str(photo), str(tmp_path / "none.png")], "top": 3}
    assert call_in_sandbox(PREDICT, [exported], asked) == predict_files(**asked)
    report, found = examine(exported, max_seconds=0.2)
    assert [row["finding"] for row in found[:1] and [found[0].row()]] == [one.name for one in found[:1]]
    assert report.tables


def test_what_the_function_raises_comes_through(exported, tmp_path):
    (tmp_path / "empty").mkdir()
    asked = {"file": str(exported), "images": [], "support": str(tmp_path / "empty")}
    with pytest.raises(DataError, match="holds no class folder") as caught:
        call_in_sandbox(PREDICT, [exported], asked)
    assert caught.value.code == "E310"
    with pytest.raises(ModelFileError, match="ended the process: ValueError: os:getcwd") as caught:
        call_in_sandbox("os:getcwd", [exported], {})
    assert caught.value.code == "E427"


@pytest.mark.parametrize("text", ["-1", "0", "soon", "nan", "1e99"])
def test_limits_are_numbers_above_0(monkeypatch, text):
    monkeypatch.setenv("EFFXFER_FOREIGN_GB", text)
    with pytest.raises(SettingsError, match="EFFXFER_FOREIGN_GB must be"):
        positive_setting("EFFXFER_FOREIGN_GB", 4.0)
    monkeypatch.setenv("EFFXFER_FOREIGN_GB", "")
    assert positive_setting("EFFXFER_FOREIGN_GB", 4.0) == 4.0


@pytest.mark.parametrize(
    "stated", [{"size": 10**9}, {"size": -3}, {"size": "big"}, {"crop_pct": 0}, {"mean": [0, 0]}, {"size": [[]]}]
)
def test_metadata_are_not_believed(exported, photo, tmp_path, stated):
    model = onnx.load(exported)
    props = {p.key: p.value for p in model.metadata_props if not p.key.startswith("effxfer.")}
    props["preprocess"] = json.dumps({**PREPROCESS.to_json(), **stated})
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, props)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match="unreadable effxfer metadata") as caught:
        call_in_sandbox(PREDICT, [tmp_path / "m.onnx"], {"file": str(tmp_path / "m.onnx"), "images": [str(photo)]})
    assert caught.value.code == "E428"


@pytest.mark.parametrize(
    "command", [["predict", "none.onnx", "photo.png"], ["doctor", "none.onnx"], ["bench", "none.onnx"]]
)
def test_an_absent_file_is_called_so(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    caught = CliRunner().invoke(app, command).exception
    assert isinstance(caught, ModelFileError), caught
    assert (caught.code, str(caught.problem)) == ("E424", "no model file none.onnx")
