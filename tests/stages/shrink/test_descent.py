"""The lowest latency that holds an accuracy; latency is multiply-adds (`counted`)."""

from types import SimpleNamespace

import pytest

from effxfer.errors import GateError
from effxfer.stages.shrink import descent
from effxfer.stages.shrink.descent import descend, not_held
from effxfer.train.state import Work
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


@pytest.mark.parametrize(
    ("seconds", "base", "count"),
    [
        # Each takes 40 s. What holds is found: a further one begins before 75, 87.5, 93.75 % of the time.
        (None, 90.0, 6),
        (45.0, 90.0, 1),
        (100.0, 90.0, 3),
        # While nothing holds there is the whole time: 0.5, 0.71 of the present latency, then 1.02.
        (45.0, 95.0, 2),
        (39.0, 95.0, 1),
    ],
)
def test_no_further_latency_is_tried_when_its_time_is_over(seconds, base, count, monkeypatch):
    at, tries = [1000.0], []
    best = SimpleNamespace(val=90.0, ratio=0.4, winner=SimpleNamespace(network="net", name="net, images"))

    def contest_at(_contest, limit, *_, **__):
        at[0] += 40.0
        tries.append(limit)
        return best

    monkeypatch.setattr(descent, "contest_at", contest_at)
    monkeypatch.setattr(descent, "score", lambda *_: base)
    contest = SimpleNamespace(
        dense=None, networks=[SimpleNamespace(name="net", present=SimpleNamespace(ratio=1.0))], device=None,
        settings=SimpleNamespace(seconds=seconds), now=lambda: at[0], task_for=lambda _: SimpleNamespace(val=None),
    )  # fmt: skip
    if base > best.val + 1:
        with pytest.raises(GateError, match="nothing faster is within 1 points"):
            descend(contest, 1.0, Work(None), at[0])
    else:
        _, _, report = descend(contest, 1.0, Work(None), at[0])
        assert any("not tried, because the time limit was near" in note for note in report.notes) == bool(seconds)
    assert len(tries) == count
