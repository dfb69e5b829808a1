"""A network of several tasks has figures, a table and plots of each, against the first model on the same examples."""

import numpy as np
import pytest
from PIL import Image

import effxfer
from effxfer.errors import GateError, SettingsError
from effxfer.stages.deliver.transfer_report import TASKS_TITLE, TITLE
from tests import tiny

LABELS = {"colour": "single", "warm": "single", "marks": "multi"}
MARKS = {"red": "hot|bright", "green": "bright|calm", "blue": "calm"}
OPTIONS = {**tiny.PLAIN, "controls": "none"}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """`tiny.two_tasks`, and how light an image is, and marks of its colour."""
    folder = tmp_path_factory.mktemp("tasks")
    settings = tiny.two_tasks(folder)
    header, *rows = (folder / "tasks.csv").read_text().splitlines()
    light = [float(np.asarray(Image.open(folder / row.partition(",")[0])).mean()) for row in rows]
    marks = [MARKS[row.split(",")[1]] for row in rows]
    lines = [f"{header},light,marks", *map(",".join, zip(rows, map(str, light), marks, strict=True))]
    (folder / "tasks.csv").write_text("\n".join(lines) + "\n")
    return settings.model_copy(update={"labels": LABELS})


def network(out, data, epochs, **options):
    fit = {**tiny.FIT, "epochs": epochs}
    return tiny.finetune(out, data, strategy="multi_task", options={**OPTIONS, **options}, fit=fit)


@pytest.fixture(scope="module")
def pair(tmp_path_factory, table):
    """A trained network and an untrained one."""
    folder = tmp_path_factory.mktemp("pair")
    return [network(folder / name, table, epochs) for name, epochs in (("good", 2), ("poor", 0))]


def test_every_task_has_its_figures_table_and_plots(pair):
    report = effxfer.transfer_report([each.path for each in pair]).report
    for task, metric, n in (("colour", "accuracy", 12), ("warm", "accuracy", None), ("marks", "mAP", 12)):
        good, poor = (each.manifest.report[f"{metric}/test/{task}"] for each in pair)
        row, drop = report[f"{metric}/test/{task}/poor"], report[f"{metric}/test/{task}/poor/drop"]
        assert report[f"{metric}/test/{task}/good"].value == pytest.approx(good.value, abs=1e-3)
        assert row.value == pytest.approx(poor.value, abs=1e-3)
        assert row.n == good.n == (n or good.n)
        assert drop.value == pytest.approx(good.value - poor.value, abs=1e-3)
        assert drop.low < drop.value < drop.high
        (shown,) = (table for table in report.tables if table.title == f"{TITLE}: {task}")
        assert [line["model"] for line in shown.rows] == ["good", "poor"]
        assert ("worst class" in shown.rows[0]) == (metric == "accuracy")
        assert {curve.name for curve in report.curves if curve.title == shown.title} >= {f"{metric}/test"}
    assert report["worst class/test/colour/poor"].value <= report["accuracy/test/colour/poor"].value
    assert {curve.y for curve in report.curves} == {"share that is right, %", "mAP, %"}
    assert not any("no target" in note for note in report.notes), "several tasks can have none"


def test_the_task_that_loses_most_counts(pair):
    paths = [each.path for each in pair]
    report = effxfer.transfer_report(paths).report
    lost = {t: report[f"{m}/test/{t}/poor/drop"].value for t, m in (("colour", "accuracy"), ("marks", "mAP"))}
    worst = report["worst task/poor/drop"]
    assert worst.value >= max(lost.values())
    assert worst.value == lost.get(worst.of, worst.value)
    assert any(table.title == TASKS_TITLE for table in report.tables)
    with pytest.raises(GateError, match=worst.of) as caught:
        effxfer.transfer_report(paths, max_drop=worst.value - 1)
    assert caught.value.code == "E605"
    effxfer.transfer_report(paths, max_drop=worst.value + 1)


def test_auxiliary_tasks_are_left_out_and_models_of_other_tasks_refused(pair, table, tmp_path):
    helped = network(tmp_path / "helped", table, 0, auxiliary=["marks"])
    report = effxfer.transfer_report([helped.path]).report
    assert report.get("mAP/test/marks/helped") is None
    assert report["accuracy/test/colour/helped"].n == 12
    with pytest.raises(SettingsError, match="helped has other tasks than good: colour, warm, not colour, warm, marks"):
        effxfer.transfer_report([pair[0].path, helped.path])


def test_several_tables_are_read_as_the_network_learned_them(tmp_path):
    tables = [
        tiny.data_of(tiny.write_images(tmp_path / name, per_class=n, seed=n)) for name, n in (("a", 8), ("b", 12))
    ]
    net = network(tmp_path / "net", tables, 0)
    report, learned = effxfer.transfer_report([net.path]).report, net.manifest.report
    for name in ("a", "b"):
        row, first = report[f"accuracy/test/{name}/net"], learned[f"accuracy/test/{name}"]
        assert (row.value, row.n) == (first.value, first.n)
    assert first.n > learned["accuracy/test/a"].n


def test_a_network_of_values_has_its_own_metric(table, tmp_path):
    values = tiny.data_of(table.source, labels="value", label_column="light")
    net = tiny.finetune(tmp_path / "net", values, fit={**tiny.FIT, "epochs": 0})
    report = effxfer.transfer_report([net.path]).report
    assert report["R2/test/net"].value == pytest.approx(net.manifest.report["R2/test"].value)
    assert report.tables[0].title == TITLE
