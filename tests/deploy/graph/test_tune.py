import numpy as np
import onnx
import pytest

from effxfer.deploy.export.onnx import read_metadata, write_metadata
from effxfer.deploy.export.parity import onnx_logits
from effxfer.deploy.graph.graph import open_graph
from effxfer.deploy.graph.tune import FILE, rewrites, tune
from effxfer.errors import ModelFileError
from effxfer.runtime.model_file.metadata import Metadata
from tests.deploy import clock
from tests.deploy.graphs import FEED, Maker, plain
from tests.tiny_net import CLASSES, PREPROCESS, images


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A network with 13 channels and an activation in pieces, as if exported."""
    made = Maker()
    for _ in range(2):
        made.conv(13)
        made.hardswish()
    made.head(len(CLASSES))
    model = made.model()
    about = Metadata(labels=CLASSES, preprocess=PREPROCESS, key="k1", extra={"task": "toys"})
    write_metadata(model, about)
    file = tmp_path_factory.mktemp("odd") / "model.onnx"
    onnx.save(model, file)
    return file


@pytest.fixture
def file(odd, tmp_path):
    copy = tmp_path / "model.onnx"
    copy.write_bytes(odd.read_bytes())
    return copy


def clocked(ratios, again=1.0, rounds=5):
    """Say how long each attempt takes against the file; those that are not named take as long as it."""

    def compare(runners, *, baseline, **_):
        assert baseline == FILE
        told = {FILE: 1.0, f"{FILE}, again": again, **ratios}
        assert ratios.keys() <= runners.keys()
        return [clock.timing(name, told.get(name, 1.0), told.get(name, 1.0), rounds=rounds) for name in runners]

    return compare


def test_what_is_faster_replaces_the_file_and_says_so(file):
    before, pixels = onnx_logits(file, images(40), threads=1), images(40)
    report = tune(file, pixels=pixels, compare=clocked({"together": 0.7, "fused": 0.8}))
    assert np.allclose(onnx_logits(file, pixels, threads=1), before, atol=1e-4)
    about = read_metadata(file)
    assert about.extra == {"task": "toys", "tuned": "together"}
    assert (about.labels, about.key) == (CLASSES, "k1")
    assert report["p50-ratio/tuned"].value == 0.7
    assert report.notes == ("model.onnx: kept together",)
    graph = open_graph(file)
    assert [node.op_type for node in graph.nodes].count("HardSwish") == 2
    assert 16 in {value.shape[0] for value in graph.constants.values() if value.ndim == 4}


@pytest.mark.parametrize("ratios", [{}, {"fused": 0.995}, {"fused": 1.2}])
def test_what_is_not_faster_changes_nothing(file, ratios):
    before = file.read_bytes()
    report = tune(file, pixels=images(20), compare=clocked(ratios))
    assert file.read_bytes() == before
    assert "left as it is" in report.notes[0]
    assert {row["verdict"] for row in report.tables[0].rows} == {"", "not faster"}


def test_what_the_noise_explains_changes_nothing(file):
    before = file.read_bytes()
    tune(file, pixels=images(20), compare=clocked({"fused": 0.92}, again=1.1))
    assert file.read_bytes() == before


def test_too_few_rounds_change_nothing(file):
    before = file.read_bytes()
    tune(file, pixels=images(20), compare=clocked({"fused": 0.5}, rounds=4))
    assert file.read_bytes() == before


def test_a_file_saved_by_the_runtime_names_its_cpu(file):
    report = tune(file, pixels=images(20), compare=clocked({"offline all": 0.5}))
    about = read_metadata(file)
    assert about.extra["tuned"] == "offline all"
    assert "onnxruntime" in about.extra["tuned-for"]
    assert "this CPU only" in report.notes[0]
    assert onnx_logits(file, images(3), threads=1).shape == (3, len(CLASSES))


def test_a_portable_file_is_kept_before_one_for_this_cpu(file):
    tune(file, pixels=images(20), compare=clocked({"offline all": 0.5, "together": 0.505}))
    assert read_metadata(file).extra == {"task": "toys", "tuned": "together"}


def test_what_answers_otherwise_is_rejected_however_fast(file, monkeypatch):
    def wrong(graph, feed):
        (name, made), *_ = rewrites(graph, feed).items()
        for tensor in made.model.graph.initializer:
            if len(tensor.dims) == 4:
                value = onnx.numpy_helper.to_array(tensor) * 2
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
        return {name: made}

    before = file.read_bytes()
    monkeypatch.setattr("effxfer.deploy.graph.tune.rewrites", wrong)
    report = tune(file, pixels=images(20), compare=clocked({}))
    assert file.read_bytes() == before
    assert "rejected: answers otherwise" in {row["verdict"] for row in report.tables[0].rows}


def test_all_rewrites_together_still_compute_the_same():
    made = Maker()
    made.conv(13)
    made.add("Sub", made.at, made.per_channel())
    made.hardswish()
    made.conv(13)
    made.head()
    found = rewrites(made.graph(), FEED)
    assert set(found) == {"folded", "fused", "widened", "together"}
    assert [node.op_type for node in found["together"].model.graph.node][:3] == ["Conv", "HardSwish", "Conv"]
    assert rewrites(plain(16).graph(), FEED) == {}


def test_the_real_clock_decides_too(file):
    report = tune(file, pixels=images(8), seconds=0.2)
    assert report.tables[0].rows[0]["attempt"] == FILE


def test_a_foreign_file_is_refused(tmp_path):
    with pytest.raises(ModelFileError):
        tune(plain(16).save(tmp_path / "m.onnx"), pixels=images(2))
