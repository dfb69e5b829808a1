import time

import numpy as np
import pytest

from effxfer.benchmark.measure.cold_start import measure_cold_start
from effxfer.errors import ModelFileError, ResourceError
from tests.benchmark.models import linear


def test_a_start_is_the_sum_of_its_parts_and_no_longer_than_it_took(tmp_path):
    file = linear(tmp_path / "m.onnx")
    begun = time.perf_counter()
    found = measure_cold_start({"m": file}, {"m": {"x": np.zeros((1, 4), np.float32)}}, runs=2)
    took = 1e3 * (time.perf_counter() - begun)
    assert len(found["m"]) == 2
    for one in found["m"]:
        assert min(one.import_ms, one.load_ms, one.first_ms) > 0
        assert one.total_ms == pytest.approx(one.import_ms + one.load_ms + one.first_ms)
    assert sum(one.total_ms for one in found["m"]) < took


def test_no_runs_start_nothing(tmp_path):
    assert measure_cold_start({"m": tmp_path / "none.onnx"}, {}, runs=0) == {}


def test_a_model_that_does_not_run_is_named(tmp_path):
    file = linear(tmp_path / "m.onnx")
    with pytest.raises(ModelFileError, match=r"m\.onnx does not run"):
        measure_cold_start({"m": file}, {"m": {"x": np.zeros((1, 5), np.float32)}}, runs=1)


def test_a_start_that_takes_too_long_is_stopped(tmp_path):
    with pytest.raises(ResourceError, match="no output within 0 s"):
        measure_cold_start({"m": linear(tmp_path / "m.onnx")}, {"m": {}}, runs=1, seconds=0.01)
