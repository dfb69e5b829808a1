import numpy as np
import pytest

from effxfer.benchmark.measure import memory
from effxfer.benchmark.measure.memory import measure_memory
from effxfer.errors import ModelFileError, ResourceError
from tests.benchmark.models import linear


@pytest.fixture
def feed():
    return {"x": np.zeros((1, 4), np.float32)}


def child(tmp_path, monkeypatch, text):
    file = tmp_path / "child.py"
    file.write_text(text)
    monkeypatch.setattr(memory, "CHILD", file)


def test_a_larger_model_adds_its_weights(tmp_path, feed):
    ballast = np.ones(100_000_000, np.uint8)
    small = measure_memory(linear(tmp_path / "s.onnx"), feed)
    wide = {"x": np.zeros((1, 5000), np.float32)}
    large = measure_memory(linear(tmp_path / "l.onnx", width=5000, classes=2000), wide)
    assert small is not None
    assert large is not None
    assert 0 < small.idle_mb < small.peak_mb < 300
    assert small.model_mb < 25
    assert large.model_mb > 40
    del ballast  # held until here: memory of this process is not counted


def test_a_model_that_does_not_run_is_named(tmp_path, feed):
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelFileError, match=r"bad\.onnx does not run"):
        measure_memory(tmp_path / "bad.onnx", feed)


def test_a_killed_process_does_not_take_this_one_along(tmp_path, monkeypatch, feed):
    child(tmp_path, monkeypatch, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(ResourceError, match="signal 9"):
        measure_memory(tmp_path / "m.onnx", feed)


def test_an_endless_process_is_stopped(tmp_path, monkeypatch, feed):
    child(tmp_path, monkeypatch, "import time; time.sleep(600)")
    with pytest.raises(ResourceError, match="within"):
        measure_memory(tmp_path / "m.onnx", feed, seconds=0.3)


def test_a_system_without_a_peak_gives_none(tmp_path, monkeypatch, feed):
    child(tmp_path, monkeypatch, "print('{}')")
    assert measure_memory(tmp_path / "m.onnx", feed) is None
