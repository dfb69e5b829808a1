import numpy as np
import pytest

from effxfer.data.task import Split, Task
from effxfer.errors import GateError
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.vectors.vectors import Vectors
from effxfer.stages.deliver.task_drops import compare_tasks

OUTPUT = SingleLabel(classes=("a", "b"))


def task(name):
    labels = np.array([0, 1] * 5)
    split = Split(rows=np.eye(2, dtype=np.float32)[labels], labels=labels, names=["x"] * 10)
    empty = Split(rows=split.rows[:0], labels=labels[:0], names=[])
    return Task(name=name, output=OUTPUT, train=split, val=split, test=empty, input=Vectors(size=2), digest=name)


def wrong_on(count):
    """Logits that are wrong on the first rows."""

    def logits(rows):
        flipped = rows.copy()
        flipped[:count] = rows[:count, ::-1]
        return flipped

    return logits


def test_the_worst_task_counts_and_not_the_mean():
    tasks = (task("january"), task("february"))
    calls = []

    def forgetful(rows):
        calls.append(len(rows))
        return wrong_on(3)(rows) if len(calls) == 2 else rows

    report = compare_tasks({"dense": (wrong_on(0), OUTPUT, tasks), "int8": (forgetful, OUTPUT, tasks)})
    assert report["worst task/int8/drop"].value == pytest.approx(30)
    assert report["worst task/int8/drop"].of == "february"
    assert [row["mean"] for row in report.tables[0].rows] == [100, 85]


def test_a_loss_beyond_the_limit_fails():
    models = {"dense": (wrong_on(0), OUTPUT, [task("t")]), "small": (wrong_on(2), OUTPUT, [task("t")])}
    assert compare_tasks(models, 20.0)["worst task/small/drop"].value == pytest.approx(20)
    with pytest.raises(GateError, match=r"small loses 20\.00 points on the task 't', 10 are allowed") as caught:
        compare_tasks(models, 10.0)
    assert caught.value.code == "E605"
