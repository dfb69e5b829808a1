"""Several tables as one task: labels that are unknown elsewhere, and examples that decode as they did."""

import numpy as np
import pytest

from effxfer.data.labels.tasks import select_tasks
from effxfer.data.several_tables.join_tables import join_tables
from effxfer.data.task import Split, Task
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.single_label import SingleLabel


def split(labels, start=0, side=8):
    count = len(labels)
    rows = np.arange(start, start + count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    return Split(
        rows=rows, labels=np.asarray(labels), names=[f"{start + n}.png" for n in range(count)],
        canvas=np.zeros((count, side, side, 3), np.uint8), aspect=np.ones(count, np.float32),
        decode_row=lambda row: start + row,
    )  # fmt: skip


def table(name, output, labels, start=0, side=8):
    splits = {each: split(labels, start, side) for each in ("train", "val", "test")}
    return Task(name=name, output=output, input=Preprocess(size=4), digest=name, **splits)


@pytest.fixture
def tables():
    kinds = table("kind", SingleLabel(classes=("a", "b", "c")), np.array([0, 2, 1]))
    marks = table("marks", MultiLabel(classes=("x", "y")), np.array([[1, 0], [255, 1]], np.uint8), start=100)
    return kinds, marks


def test_labels_of_other_tables_are_unknown(tables):
    task = join_tables(tables)
    assert task.name == "kind + marks"
    assert task.classes == ("kind/a", "kind/b", "kind/c", "marks/x", "marks/y")
    unknown = np.nan
    np.testing.assert_array_equal(task.train.labels, np.array([
        [0, unknown, unknown], [2, unknown, unknown], [1, unknown, unknown],
        [unknown, 1, 0], [unknown, unknown, 1],
    ], np.float32))  # fmt: skip
    assert task.train.tables.tolist() == [0, 0, 0, 1, 1]
    assert [task.train.decode_row(row) for row in range(5)] == [0, 1, 2, 100, 101]
    assert task.train.canvas.shape == (5, 8, 8, 3)
    assert "task marks: train 2, val 2, test 2" in task.notes


def test_a_task_taken_out_again_has_its_own_examples(tables):
    kinds, marks = tables
    task = join_tables([*tables, table("more", SingleLabel(classes=("m", "n")), np.array([1, 0]), start=200)])
    back = select_tasks(task, ("marks",))
    np.testing.assert_array_equal(back.train.labels, marks.train.labels)
    np.testing.assert_array_equal(back.train.rows, marks.train.rows)
    assert back.train.tables is None
    two = select_tasks(task, ("kind", "more"))
    assert two.train.tables.tolist() == [0, 0, 0, 2, 2], "examples that neither task has a label of are gone"
    assert [*kinds.train.names, "200.png", "201.png"] == list(two.train.names)


def test_images_to_crop_from_of_other_sizes_are_left_out(tables):
    small = table("small", SingleLabel(classes=("m", "n")), np.array([1, 0]), side=6)
    assert join_tables([tables[0], small]).train.canvas is None
