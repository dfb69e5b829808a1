import json
from types import SimpleNamespace

import numpy as np
import pytest

from effxfer.benchmark.measure import serving
from effxfer.benchmark.measure.serving import Layout, Served, layouts, measure_serving, serving_report
from effxfer.errors import ModelFileError
from tests.benchmark.models import linear

FEED = {"x": np.zeros((1, 4), np.float32)}


def test_layouts_use_all_cores_and_begin_with_one_process():
    assert layouts(1) == [Layout(1, 1)]
    assert layouts(6) == [Layout(1, 6), Layout(2, 3), Layout(3, 2), Layout(6, 1)]
    assert layouts(64)[-1] == Layout(16, 4)


def test_all_processes_of_a_layout_serve_at_once(tmp_path):
    served = measure_serving(linear(tmp_path / "m.onnx"), FEED, cores=2, batch=3, seconds=0.4)
    assert [one.layout for one in served] == [Layout(1, 2), Layout(2, 1)]
    for one in served:
        assert len(one.rates) == serving.ROUNDS
        # A process is busy for the whole round: its calls fill it, whatever the machine's speed is.
        assert max(one.rates) * one.p50 / 1e3 / 3 < 1.5 * one.layout.processes
        assert min(one.rates) > 0


def test_calls_of_all_processes_count_and_no_call_after_the_end(monkeypatch, tmp_path):
    class Server:
        """A process whose calls take a tenth of a round each."""

        def __init__(self, *_):
            self.lines, self.stdin, self.stdout = [[]], self, self

        def write(self, line):
            begin, end = json.loads(line)
            self.lines += [[(end - begin) / 1e10] * 10, []]

        def readline(self):
            return json.dumps(self.lines.pop(0)) + "\n"

        def flush(self):
            pass

        kill = communicate = flush

    monkeypatch.setattr(serving, "children", SimpleNamespace(converse=Server))
    served = measure_serving(tmp_path / "m.onnx", FEED, cores=2, batch=4, seconds=1.0)
    window = 1.0 / (2 * serving.ROUNDS)
    assert served[0].rates == pytest.approx([10 * 4 / window] * serving.ROUNDS)
    assert served[1].rates == pytest.approx([2 * 10 * 4 / window] * serving.ROUNDS)
    assert served[1].p50 == pytest.approx(1e3 * window / 10, rel=1e-6)


def test_a_model_that_does_not_run_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"m\.onnx does not run"):
        measure_serving(linear(tmp_path / "m.onnx"), {"x": np.zeros((1, 5), np.float32)}, cores=2, seconds=0.1)


def test_the_report_names_the_best_layout_and_doubts_a_difference_within_the_rounds():
    one, two = Layout(1, 2), Layout(2, 1)
    clear = serving_report(
        [Served(layout=one, rates=[100, 110, 90], p50=10), Served(layout=two, rates=[150, 160, 140], p50=13)],
        "model.onnx", "images",
    )  # fmt: skip
    assert clear.notes == ("model.onnx is served best by 2 processes of 1 thread: 150 images/s",)
    assert clear["serving/2 processes of 1 thread"].value == 150
    assert [row["against one process"] for row in clear.tables[0].rows] == [1, 1.5]
    close = serving_report(
        [Served(layout=one, rates=[100, 110, 90], p50=10), Served(layout=two, rates=[105, 106, 104], p50=13)],
        "model.onnx", "images",
    )  # fmt: skip
    assert close.notes[0].endswith("; 1 process of 2 threads differs by no more than rounds do")
