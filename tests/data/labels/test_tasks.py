"""Several tasks of one table: settings, labels that are missing, checks, and tasks with fewer questions."""

from functools import partial

import numpy as np
import pytest

from effxfer.data.checks.label_counts import label_table
from effxfer.data.labels.tasks import select_tasks
from effxfer.data.load import load, scan
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError, SettingsError
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.outputs.registry import output_from_json
from effxfer.settings import build
from tests.data.corpus import class_folders
from tests.data.label_tables import write_table

KINDS = {"shape": "single", "tags": "multi", "area": "value"}
HEADER = ("path", *KINDS, "split")


def row(number, **change):
    cells = {
        "path": f"images/{number:03d}.jpg", "shape": ("round", "square")[number % 2],
        "tags": ("dark|old", "dark", "|")[number % 3], "area": f"{number / 4}",
        "split": ("train", "train", "train", "val", "test")[number % 5],
    }  # fmt: skip
    return [str({**cells, **change}[name]) for name in HEADER]


@pytest.fixture
def table(tmp_path):
    class_folders(tmp_path, {"images": 60})
    return partial(write, tmp_path)


def write(folder, change=lambda _number: {}, labels=KINDS):
    file = write_table(folder / "t.csv", [row(n, **change(n)) for n in range(60)], HEADER)
    return DataSettings(source=str(file), labels=labels)


def loaded(settings, tmp_path):
    return load(settings, Preprocess(size=16), cache=tmp_path / "cache")


def test_labels_of_all_tasks_stand_side_by_side(table, tmp_path):
    task = loaded(table(), tmp_path)
    assert task.classes == ("shape/round", "shape/square", "tags/dark", "tags/old", "area/area")
    number = int(task.val.names[0][7:10])
    expected = [number % 2, float(number % 3 < 2), float(number % 3 == 0), number / 4]
    assert task.val.labels[0].tolist() == expected
    assert task.val.labels.dtype == np.float32
    assert output_from_json(task.output.to_json()) == task.output


def test_an_empty_cell_is_a_missing_label_and_a_bar_none_that_applies(table, tmp_path):
    task = loaded(table(lambda n: {"shape": ""} if n % 4 == 0 else {"tags": ""} if n % 4 == 1 else {}), tmp_path)
    known = ~np.isnan(task.train.labels)
    numbers = np.array([int(name[7:10]) for name in task.train.names])
    assert known[:, 0].tolist() == (numbers % 4 != 0).tolist()
    assert known[:, 1].tolist() == known[:, 2].tolist() == (numbers % 4 != 1).tolist()
    assert task.train.labels[(numbers % 3 == 2) & (numbers % 4 != 1)][:, 1:3].max() == 0


def test_columns_of_single_labels_are_tasks():
    settings = build(DataSettings, {"source": "t.csv", "label_columns": ["left", "right"]}, "data")
    assert (settings.labels, settings.tasks) == ("tasks", {"left": "single", "right": "single"})
    assert build(DataSettings, settings.plain(), "data") == settings
    assert settings.names_of_labels == ("left", "right")


@pytest.mark.parametrize(("options", "says"), [
    ({"label_columns": ["a", "a"]}, "two tasks have one name, 'a'"),
    ({"labels": {"a": "single"}}, "one task is no several"),
    ({"labels": {}}, "labels = {shape"),
    ({"labels": "tasks"}, "labels = {shape"),
    ({"labels": {"a": "single", "b": "span"}}, "'multi', 'single', 'tags' or 'value'"),
    ({"labels": {"a": "single", "b/c": "single"}}, "cannot be called 'b/c'"),
    ({"labels": {"a": "single", "images": "single"}}, "cannot be called 'images'"),
    ({"labels": {"a": "single", "path": "single"}}, "different columns"),
    ({"labels": {"a": "single", "b": "value"}, "label_column": "a"}, "its column"),
    ({"labels": {"a": "single", "b": "value"}, "max_per_class": 3}, "leave out max_per_class"),
    ({"labels": {"a": "single", "b": "value"}, "target": "x"}, "a target needs labels = 'single'"),
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(options, says):
    with pytest.raises(SettingsError, match=says):
        build(DataSettings, {"source": "t.csv", **options}, "data")


@pytest.mark.parametrize(("change", "code", "says"), [
    (lambda n: {"shape": ""} if n % 5 == 3 else {}, "E348", "task 'shape' has no label in val"),
    (lambda n: {"shape": "round"} if n % 5 < 3 else {}, "E312", "task 'shape' has one class in train"),
    (lambda n: {"shape": "oval"} if n == 3 else {}, "E321", "classes that train lacks: oval"),
    (lambda n: {"shape": f"{n}.5"}, "E321", "classes that train lacks: 13.5, 14.5"),
    (lambda _n: {"area": "3"}, "E343", "task 'area'"),
    (lambda n: {"area": "large"} if n == 4 else {}, "E342", "'area' is 'large', no finite number"),
    (lambda n: {"shape": "", "tags": "", "area": ""} if n == 7 else {}, "E334", "no label in 'shape', 'tags', 'area'"),
])  # fmt: skip
def test_labels_that_cannot_be_learned_or_measured_are_refused(table, change, code, says):
    with pytest.raises(DataError, match=says) as caught:
        scan(table(change))
    assert caught.value.code == code


def test_a_column_that_does_not_exist_is_named(table):
    with pytest.raises(DataError, match=r"no column 'shap' \(did you mean 'shape'\?\)") as caught:
        scan(table(labels={"shap": "single", "area": "value"}))
    assert caught.value.code == "E331"


def test_numbers_that_look_like_classes_and_classes_that_look_like_numbers_are_noted(table):
    few = scan(table(lambda n: {"area": str(n % 3)})).notes
    assert any("W343" in note and "'area' takes 3 whole numbers" in note for note in few)
    many = scan(table(lambda n: {"shape": str(n // 3)}, {"shape": "single", "area": "value"})).notes
    assert any("W343" in note and "20 classes, all of them numbers" in note for note in many)
    assert not any("W343" in note for note in scan(table()).notes)


def test_kinds_are_part_of_the_digest(table):
    as_value = scan(table(labels={"shape": "single", "area": "value"}))
    as_class = scan(table(lambda n: {"area": str(n % 3)}, {"shape": "single", "area": "single"}))
    again = scan(table(labels={"shape": "single", "area": "value"}))
    assert as_value.key == again.key != as_class.key


def test_an_audit_counts_labels_by_task(table):
    counts = label_table(scan(table(lambda n: {"area": ""} if n % 2 else {})))
    assert [(r["task"], r["kind"], r["columns"], r["train"]) for r in counts.rows] == [
        ("shape", "single", 2, 36), ("tags", "multi", 2, 36), ("area", "value", 1, 18),
    ]  # fmt: skip


def test_a_task_can_be_taken_out(table, tmp_path):
    task = loaded(table(lambda n: {"shape": ""} if n % 4 == 0 else {}), tmp_path)
    two = select_tasks(task, ("shape", "area"))
    assert (two.classes, two.val.labels.shape[1]) == (("shape/round", "shape/square", "area/area"), 2)
    assert len(two.train) == len(task.train)
    one = select_tasks(task, ("shape",))
    assert one.classes == ("round", "square")
    assert len(one.train) == int((~np.isnan(task.train.labels[:, 0])).sum()) < len(task.train)
    assert one.train.labels.dtype == np.int64
    with pytest.raises(DataError, match="no tasks colour"):
        select_tasks(task, ("colour",))
