"""Heads of text encoders: their features know no padding."""

import numpy as np
import pytest
import torch

from effxfer.errors import ModelFileError
from effxfer.net.edits import apply_edit
from effxfer.net.taps import tap_widths
from effxfer.stages.head_search.features import compute_features, plan_features
from effxfer.stages.head_search.search import search
from effxfer.train.devices import pick_device
from effxfer.train.evaluate import predict
from effxfer.train.state import Work
from tests import tiny
from tests.transfer.tasks import CPU
from tests.transfer.text_tasks import encoder, text_task

pytest.importorskip("tokenizers")
TAPS = ("blocks.0", "out")
GATE = {"join": "gate", "mix": 8}


@pytest.fixture(scope="module")
def task():
    return text_task(96)


def test_features_are_those_of_each_text_alone(task, tmp_path):
    net = encoder().eval()
    plan = plan_features(net, TAPS, 120, grid=7, cache_mb=100)
    found = compute_features(net, task, plan, tmp_path / "features", pick_device("cpu"))
    assert len({len(row) for row in task.val.rows}) > 3, "most are padded in a batch"
    with torch.inference_mode():
        alone = [net.pooled_taps(torch.from_numpy(task.input.feed(row[None])), TAPS) for row in task.val.rows]
    for tap in TAPS:
        np.testing.assert_allclose(found.val[tap], torch.cat([one[tap] for one in alone]), rtol=1e-4, atol=1e-5)


def test_no_positions_are_stored_and_the_report_says_so(task):
    plan = plan_features(encoder(), TAPS, 120, grid=7, cache_mb=100)
    assert plan.maps == {}
    assert plan.notes == ("no head pools positions: of texts, it would see padding",)


def test_a_gate_of_layers_answers_to_a_text_as_it_does_alone(task):
    net = encoder()
    widths = list(tap_widths(net, TAPS).values())
    apply_edit(net, "set_head", spec=GATE, features=widths, classes=list(task.classes), taps=list(TAPS))
    together = predict(net, task.val.rows, net.input, CPU)
    alone = torch.cat([predict(net, row[None], net.input, CPU) for row in task.val.rows])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["gem", "attention", "bilinear"])
def test_a_head_that_would_pool_padding_is_refused(task, pool):
    with pytest.raises(ModelFileError, match=f"pools by {pool} would see the padding of texts"):
        apply_edit(encoder(), "set_head", spec={"pool": pool}, features=[24], classes=list(task.classes))


@pytest.mark.parametrize("latency", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_head_is_searched(task, latency):
    net, told = encoder(), {"trials": 6, "epochs": 9, "startup": 6, "taps": [["out"], ["blocks.0", "out"]]}
    settings = tiny.settings_of("search", **told, latency=latency, confidence=0.0)
    net, report = search(net, [task], settings, device=pick_device("cpu"), work=Work(None))
    assert report["accuracy/val"].value == pytest.approx(report["head accuracy/val"].value)
    assert report["accuracy/val"].value > 90
    assert "texts" in str(report["accuracy/val"])
    assert ("head latency/p50" in {row.name for row in report.rows}) == latency
