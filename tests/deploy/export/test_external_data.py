import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from effxfer.benchmark.measure.size import measure_size
from effxfer.benchmark.untrusted.vet import vet
from effxfer.deploy.export import external_data
from effxfer.deploy.export.external_data import weights_of, write_model
from effxfer.deploy.export.logits import onnx_logits
from effxfer.deploy.export.onnx import load
from effxfer.deploy.export.parity import check
from effxfer.deploy.export.preprocessing import add_preprocessing, front_of
from effxfer.errors import ModelFileError
from effxfer.runtime.model import Model
from tests.tiny_net import PREPROCESS, images


@pytest.fixture
def copy(exported, tmp_path):
    return Path(shutil.copy(exported, tmp_path / "model.onnx"))


@pytest.fixture
def large(copy, monkeypatch):
    """The network with its weights beside it, as if it were larger than 2 GB."""
    monkeypatch.setattr(external_data, "LIMIT", 100)
    monkeypatch.setattr(external_data, "SMALL", 64)
    return write_model(load(copy), copy)


def test_below_the_limit_all_is_in_one_file(copy):
    before = copy.read_bytes()
    assert write_model(load(copy), copy).read_bytes() == before
    assert [p.name for p in copy.parent.iterdir()] == ["model.onnx"]


def test_above_it_the_weights_lie_beside_the_file(large, exported, net, pixels, labels):
    assert sorted(p.name for p in large.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    places = {e.value for t in load(large).graph.initializer for e in t.external_data if e.key == "location"}
    assert places == {"model.onnx.data"}
    assert large.stat().st_size < exported.stat().st_size
    np.testing.assert_array_equal(onnx_logits(large, pixels[:5]), onnx_logits(exported, pixels[:5]))
    assert check(large, net, pixels, labels, PREPROCESS)["parity/split"].value < 1e-4
    assert measure_size(large).params == measure_size(exported).params


def test_both_files_can_be_moved_together(large, tmp_path, pixels):
    expected = onnx_logits(large, pixels[:2])
    there = shutil.move(large.parent, tmp_path.with_name(tmp_path.name + "-moved")) / Path(large.name)
    np.testing.assert_array_equal(onnx_logits(there, pixels[:2]), expected)
    assert vet(there).outside_bytes > 0


def test_preprocessing_is_added_without_touching_the_weights(large, exported, tmp_path):
    data = weights_of(large).read_bytes()
    whole = Model(add_preprocessing(large))
    assert weights_of(large).read_bytes() == data
    assert front_of(large).graph.node
    image = images(1, size=30)[0]
    assert whole.predict([image])[0].label == Model(exported).predict([image])[0].label


def test_no_trace_of_this_machine(large):
    add_preprocessing(large)
    here = (str(Path.cwd()), str(Path.home()), sys.prefix, str(large.parent), "site-packages", "stack_trace")
    for file in (large, weights_of(large)):
        assert [text for text in here if text.encode() in file.read_bytes() and text != "/"] == []


def test_weights_of_an_older_file_are_removed(large, exported, monkeypatch):
    monkeypatch.undo()
    write_model(load(exported), large)
    assert [p.name for p in large.parent.iterdir()] == ["model.onnx"]


def test_an_invalid_graph_leaves_the_older_file(copy):
    before, model = copy.read_bytes(), load(copy)
    model.graph.node[0].op_type = "Nonsense"
    with pytest.raises(ModelFileError, match="invalid graph") as caught:
        write_model(model, copy)
    assert caught.value.code == "E426"
    assert copy.read_bytes() == before
    assert [p.name for p in copy.parent.iterdir()] == ["model.onnx"]


def test_a_failure_above_the_limit_leaves_the_older_file(large, monkeypatch):
    before = large.read_bytes(), weights_of(large).read_bytes()
    model = onnx.load(large)
    first = model.graph.initializer[0]
    first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first) * 2, first.name))
    model.graph.node[0].op_type = "Nonsense"
    with pytest.raises(ModelFileError, match="invalid graph"):
        write_model(model, large)
    assert (large.read_bytes(), weights_of(large).read_bytes()) == before
    assert sorted(p.name for p in large.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
