import json
import os

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from effxfer.deploy.export.onnx import load
from effxfer.runtime.__main__ import main
from effxfer.runtime.model import Model, ModelError
from effxfer.runtime.predict import predict_files
from tests.tiny_net import CLASSES, PREPROCESS, images


@pytest.mark.parametrize(("asked", "started"), [(1, 1), (10**6, os.cpu_count())])
def test_no_more_threads_are_started_than_the_machine_has_cores(file, asked, started):
    """500 on two cores waited for each other for minutes."""
    assert Model(file, threads=asked)._file.session.get_session_options().intra_op_num_threads == started


def test_metadata_that_deny_the_input_are_refused(file, tmp_path):
    proto = load(file)
    next(p for p in proto.metadata_props if p.key == "with_preprocessing").value = "true"
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"takes tensor\(float\) .*, which its metadata contradicts"):
        Model(tmp_path / "m.onnx")


@pytest.mark.parametrize("content", [None, b"", b"hello", "half"])
def test_what_is_no_model_is_named(file, tmp_path, content):
    bad = tmp_path / "bad.onnx"
    if content is not None:
        bad.write_bytes(file.read_bytes()[:2000] if content == "half" else content)
    with pytest.raises(ModelError) as caught:
        Model(bad)
    assert caught.value.code == "E424"
    assert "bad.onnx" in caught.value.problem
    assert "\n" not in caught.value.problem


def stated(**change):
    return json.dumps({**PREPROCESS.to_json(), **change})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"labels": None}, "has no effxfer metadata"),
        ({"preprocess": "{"}, "unreadable effxfer metadata"),
        ({"preprocess": '{"mean": [0, 0, 0], "std": [1, 1, 1], "colour": 1}'}, "unreadable effxfer metadata"),
        ({"labels": '["a", "b"]'}, "its metadata names 2 labels"),
        ({"labels": "[" * 100_000}, "nested too deeply"),
        ({"labels": "{}"}, "labels are no list"),
        ({"labels": "[]"}, "labels are no list"),
        ({"labels": json.dumps(["a"] * 100_001)}, "labels are no list of 1 to 100000"),
        ({"labels": json.dumps(["a" * 1001])}, "no text of at most 1000 characters"),
        ({"labels": "[1]"}, "the label 1 is no text"),
        ({"preprocess": stated(size=10**9)}, "size is 1000000000, no whole number from 1 to 8192"),
        ({"preprocess": stated(size=-3)}, "size is -3"),
        ({"preprocess": stated(size="big")}, "size is 'big'"),
        ({"preprocess": stated(size=True)}, "size is True"),
        ({"preprocess": stated(crop_pct=0)}, "crop_pct is 0"),
        ({"preprocess": stated(crop_pct=1e-300)}, "crop_pct is 1e-300"),
        ({"preprocess": stated(crop_pct=2)}, "crop_pct is 2"),
        ({"preprocess": stated(mean=[0, 0])}, "mean is a list, no list of three numbers"),
        ({"preprocess": stated(mean=[0, 0, float("nan")])}, "no list of three numbers"),
        ({"preprocess": stated(std=[1, 0, 1])}, "std is a list, not above 0"),
        ({"preprocess": stated(std=None)}, "std is None"),
        ({"preprocess": stated(interpolation="magic")}, "interpolation is 'magic', none of"),
        ({"preprocess": stated(crop="round")}, "crop is 'round', none of"),
        ({"preprocess": "[]"}, "preprocess is a list, no table"),
    ],
)
def test_missing_or_broken_metadata(file, tmp_path, change, problem):
    proto = load(file)
    props = {p.key: p.value for p in proto.metadata_props} | change
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {k: v for k, v in props.items() if v is not None})
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=problem) as caught:
        Model(tmp_path / "m.onnx")
    assert caught.value.code == "E428"


def with_bias(file, out, value):
    """The same network, whose last bias holds `value`."""
    proto = load(file)
    weights = {put for node in proto.graph.node for put in node.input}
    bias = next(t for t in proto.graph.initializer if list(t.dims) == [len(CLASSES)] and t.name in weights)
    bias.CopyFrom(numpy_helper.from_array(np.array([value, *[0] * (len(CLASSES) - 1)], np.float32), bias.name))
    onnx.save(proto, out)
    return out


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_answers_that_are_no_numbers_name_file_and_image(file, photos, tmp_path, value, capsys):
    bad = with_bias(file, tmp_path / "m.onnx", value)
    with pytest.raises(ModelError, match="returns NaN or infinity") as caught:
        predict_files(bad, photos)
    assert caught.value.code == "E429"
    assert str(bad) in caught.value.problem
    assert str(photos[0]) in caught.value.problem
    with pytest.raises(ModelError, match="returns NaN or infinity for image 1"):
        Model(bad).probabilities([images(1)[0]])
    assert main([str(bad), *map(str, photos)]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("E429")


def test_an_answer_of_another_shape_names_what_it_is(file, photos, tmp_path):
    proto = load(file)
    last = proto.graph.output[0].name
    for node in proto.graph.node:
        node.output[:] = ["before" if name == last else name for name in node.output]
    two = numpy_helper.from_array(np.array([2, 1], np.int64), "two")
    proto.graph.initializer.append(two)
    proto.graph.node.append(onnx.helper.make_node("Tile", ["before", "two"], [last]))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"returns float32 \(10, 5\) for .*, not float \(5, 5\)") as caught:
        predict_files(tmp_path / "m.onnx", photos)
    assert caught.value.code == "E428"


def test_a_provider_that_is_not_there_is_refused_not_replaced(file):
    with pytest.raises(ModelError, match=r"has no NoSuchProvider") as caught:
        Model(file, providers=["NoSuchProvider"])
    assert "CPUExecutionProvider" in caught.value.hint
    assert Model(file, providers=["NoSuchProvider", "CPUExecutionProvider"]).providers == ("CPUExecutionProvider",)
