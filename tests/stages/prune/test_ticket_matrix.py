import re

import pytest

from effxfer.errors import SettingsError
from effxfer.report import Measurement, Report
from effxfer.settings import build
from effxfer.stages.prune import ticket as stage
from effxfer.stages.prune.ticket_matrix import cells, matrix, outline, tabulate
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.source import read_ticket
from effxfer.stages.settings.ticket_settings import Matrix
from tests import tiny
from tests.contracts.test_stages import ticket_of

NONE = {"epochs": 0}


@pytest.fixture(scope="module")
def tasks(data, folder):
    return {"shapes": data, "fewer": tiny.data_of(folder, max_per_class=5)}


@pytest.fixture(scope="module")
def tickets(dense, data, tmp_path_factory):
    """Two tickets of one rewind point and one recipe, 50 % and 67 % sparse."""
    more = {"rounds": 1, "fit": {**tiny.FIT, "epochs": 0}, "sparsity": 0.5}
    found = tiny.stage("prune lottery", dense, tmp_path_factory.mktemp("found") / "a", data, **more)
    return {"a": read_ticket(found.path), "b": ticket_of(dense)}


def settings(**more):
    return build(Matrix, {"fit": NONE, **more}, "matrix")


@pytest.fixture(scope="module")
def made(tickets, tasks, tmp_path_factory):
    context = RunContext(out=tmp_path_factory.mktemp("matrix") / "out", device="cpu")
    return context, matrix(tickets, tasks, settings(options=tiny.PLAIN), context)


def test_every_ticket_meets_every_task_and_its_controls(tickets, tasks):
    planned = cells(tickets, tasks, settings(seeds=2))
    found = {(one.tickets, one.settings.mask, one.task, one.settings.seed) for one in planned}
    owners = [(("a",), "ticket"), (("b",), "ticket"), (("a",), "random"), (("b",), "random"), (("a", "b"), "none")]
    assert found == {(*owner, task, seed) for owner in owners for task in tasks for seed in (0, 1)}
    assert len({one.place for one in planned}) == len(planned) == len(found)
    assert {one.settings.mask for one in cells(tickets, tasks, settings(controls=False))} == {"ticket"}


def test_tickets_of_other_recipes_have_dense_networks_of_their_own(tickets, tasks):
    planned = cells(tickets, tasks, build(Matrix, {}, "matrix"))
    assert {one.tickets for one in planned if one.settings.mask == "none"} == {("a",), ("b",)}


def test_each_is_an_ordinary_model_and_the_table_is_one_too(made, tickets):
    context, table = made
    cell = "a-on-shapes", "a-random-on-shapes", "b-on-fewer", "a-dense-on-fewer"
    names = {path.name for path in context.out.iterdir() if not path.name.startswith(".")}
    assert names > {*cell, "matrix"}
    assert len(names) == 11
    (shown,) = table.manifest.report.tables
    told = [(row["ticket"], row["network"]) for row in shown.rows]
    assert told == [("a", "ticket"), ("b", "ticket"), ("a", "random mask"), ("b", "random mask"), ("a, b", "dense")]
    assert [row["weights %"] for row in shown.rows] == pytest.approx([50, 33.3, 50, 33.3, 100], abs=0.1)
    row = table.manifest.report["accuracy/test/fewer/a/random mask"]
    assert row.value == shown.rows[2]["fewer test"]
    assert table.manifest.stage == "ticket matrix"
    assert any(note.startswith("shapes: 12 validation and 12 test images") for note in table.manifest.report.notes)


def test_what_is_done_is_not_done_again(made, tickets, tasks, monkeypatch):
    context, table = made
    monkeypatch.setattr(stage, "train", lambda *_args, **_more: pytest.fail("a finished cell was trained again"))
    told = settings(options=tiny.PLAIN)
    assert all(row["done"] for row in outline(cells(tickets, tasks, told), context))
    assert matrix(tickets, tasks, told, context).manifest == table.manifest
    one_task = {"shapes": tasks["shapes"]}
    smaller = matrix(tickets, one_task, told, context)
    assert list(smaller.manifest.report.tables[0].rows[0]) == [
        "ticket", "network", "weights %", "shapes val", "shapes test", "n"
    ]  # fmt: skip


def test_it_goes_on_cell_by_cell(tickets, tasks, tmp_path, monkeypatch):
    real, seen = stage.train, []

    def cut_off(*args, **more):
        seen.append(args)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(stage, "train", cut_off)
    context, told = RunContext(out=tmp_path / "out", device="cpu"), settings(controls=False)
    with pytest.raises(KeyboardInterrupt):
        matrix(tickets, tasks, told, context)
    assert [row["done"] for row in outline(cells(tickets, tasks, told), context)] == [True, True, False, False]
    matrix(tickets, tasks, told, context)
    assert len(seen) == 5


def test_a_result_in_the_way_is_found_before_anything_is_trained(made, tickets, tasks, monkeypatch):
    context, _ = made
    monkeypatch.setattr(stage, "train", lambda *_args, **_more: pytest.fail("trained"))
    with pytest.raises(SettingsError, match="made from other settings"):
        matrix(tickets, tasks, settings(seed=3), context)


def test_names_that_make_one_directory_are_refused(tickets, tasks):
    with pytest.raises(SettingsError, match="the same directory"):
        cells({"a/x": tickets["a"], "a-x": tickets["b"]}, tasks, settings())


class Made:
    """A result that only has a report."""

    def __init__(self, val, test):
        rows = (Measurement(name="accuracy/val", value=val), Measurement(name="accuracy/test", value=test))
        self.manifest = type("Manifest", (), {"report": Report(rows=rows)})


def test_repeats_are_told_by_median_range_and_n_and_verdicts_by_validation(tickets, tasks):
    told = settings(seeds=3)
    planned = cells({"a": tickets["a"]}, {"shapes": tasks["shapes"]}, told)
    values = {"ticket": (60, 70, 90), "random": (80, 70, 60), "none": (90, 95, 99)}
    done = {one.place: Made(values[one.settings.mask][one.number], one.number) for one in planned}
    report = tabulate(planned, done)
    row = report.tables[0].rows[0]
    assert (row["shapes val"], row["shapes val range"], row["n"]) == (70, "60.00 to 90.00", 3)
    assert (row["shapes test"], row["shapes test range"]) == (1, "0.00 to 2.00")
    assert report["accuracy/val/shapes/a/ticket"].n == 3
    verdicts = [note for note in report.notes if re.match("a ", note)]
    assert verdicts == [
        "a (70.00) does not beat a random mask (70.00) on shapes",
        "a (70.00) does not match the dense network (95.00) on shapes",
    ]


def test_recipes_that_differ_are_told(tickets, tasks):
    planned = cells(tickets, {"shapes": tasks["shapes"]}, build(Matrix, {"controls": False}, "matrix"))
    done = {one.place: Made(50, 50) for one in planned}
    assert any("recipes differ" in note for note in tabulate(planned, done).notes)
    alike = cells(tickets, {"shapes": tasks["shapes"]}, settings(controls=False))
    assert not any("recipes differ" in note for note in tabulate(alike, done).notes)


def test_a_task_without_test_images_has_no_such_column(tickets, tasks):
    planned = cells({"a": tickets["a"]}, {"shapes": tasks["shapes"]}, settings(controls=False))
    made = Made(50, 50)
    made.manifest.report = Report(rows=made.manifest.report.rows[:1])
    report = tabulate(planned, dict.fromkeys((one.place for one in planned), made))
    assert [name for name in report.tables[0].rows[0] if name.startswith("shapes")] == ["shapes val"]
    assert report["accuracy/val/shapes/a/ticket"].value == 50
    assert "shapes: 1 validation images" in report.notes
