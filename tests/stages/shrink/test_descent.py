"""The lowest latency that holds an accuracy; latency is multiply-adds (`counted`)."""

import pytest

from effxfer.errors import GateError
from effxfer.stages.shrink import descent
from effxfer.stages.shrink.descent import not_held
from tests import tiny
from tests.stages.shrink.counted import counted  # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("counted")
FREE = {"latency_ratio": None, "kinds": ["images"], "fit": {**tiny.FIT, "epochs": 0}}


def tried(made):
    return next(list(table.rows) for table in made.manifest.report.tables if table.title == "Latencies tried")


def test_it_goes_down_while_the_accuracy_holds(dense, data, tmp_path):
    made = tiny.stage("shrink", dense, tmp_path / "out", data, max_drop=100.0, **FREE)
    rows = tried(made)
    assert [row["holds"] for row in rows] == ["yes", "no"], "8 px are the smallest images"
    assert rows[0]["latency x"] == 0.5
    assert rows[1]["latency x"] == pytest.approx(0.7 * rows[0]["p50 ratio"])
    assert made.manifest.report["latency/measured"].value == rows[0]["p50 ratio"]
    assert made.net().input.size == 8


def test_it_goes_up_where_the_first_does_not_hold(dense, data, tmp_path, monkeypatch):
    monkeypatch.setattr(descent, "FIRST", 0.2)
    made = tiny.stage("shrink", dense, tmp_path / "out", data, max_drop=100.0, **FREE)
    limits = [row["latency x"] for row in tried(made)]
    assert limits == pytest.approx([0.2, 0.2 / 0.7])
    assert [row["holds"] for row in tried(made)] == ["no", "yes"]


def test_nothing_that_holds_is_exit_code_6_and_names_the_nearest(dense, data, tmp_path, monkeypatch):
    monkeypatch.setattr(descent, "score", lambda *_: 101.0)
    with pytest.raises(GateError, match=r"nothing faster is within 0 points: the nearest is .* points below") as caught:
        tiny.stage("shrink", dense, tmp_path / "out", data, max_drop=0.0, **FREE)
    assert (caught.value.exit_code, caught.value.code) == (6, "E604")


def test_no_latency_at_all_is_told():
    row = {"drop, points": None, "winner": "no such thing", "p50 ratio": None}
    assert "no such thing" in not_held([row], 1.0).problem
