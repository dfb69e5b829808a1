import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.multi_task.worst_task import main_scores, worst_drop
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.predictions import to_predictions
from effxfer.runtime.outputs.registry import output_from_json
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.outputs.single_label import SingleLabel

OUTPUTS = TaskOutputs(
    outputs={
        "shape": SingleLabel(classes=("round", "square")),
        "tags": MultiLabel(classes=("dark", "old"), thresholds=(0.5, -0.5)),
        "area": Regression(classes=("area",), mean=(4.0,), deviation=(2.0,)),
    },
    main=("shape",),
    auxiliary=("area",),
)
NAN = np.nan
LABELS = np.array([[0, 1, 0, 5], [1, NAN, NAN, 3], [NAN, 0, 1, NAN], [1, 1, NAN, 8]], np.float32)


def raw_of(labels, scale=1.0):
    """Outputs of a network that is right everywhere, at `scale` 1."""
    shape = np.nan_to_num(labels[:, :1]) * 2 - 1
    tags = np.nan_to_num(labels[:, 1:3]) * 4 - 2
    return np.concatenate([-shape, shape, tags, (np.nan_to_num(labels[:, 3:]) - 4) / 2], 1).astype(np.float32) * scale


def test_columns_and_labels_stand_side_by_side():
    assert OUTPUTS.classes == ("shape/round", "shape/square", "tags/dark", "tags/old", "area/area")
    assert OUTPUTS.width == 5
    assert OUTPUTS.columns() == {"shape": slice(0, 2), "tags": slice(2, 4), "area": slice(4, 5)}
    assert OUTPUTS.label_columns() == {"shape": slice(0, 1), "tags": slice(1, 3), "area": slice(3, 4)}


def test_each_task_is_measured_on_the_examples_that_have_its_label():
    parts = {part.name: part for part in OUTPUTS.parts(raw_of(LABELS), LABELS)}
    assert parts["shape"].labels.tolist() == [0, 1, 1]
    assert parts["tags"].labels.tolist() == [[1, 0], [0, 1], [1, 255]]
    assert parts["area"].labels[:, 0].tolist() == [5, 3, 8]
    assert [(s.metric, s.task, s.value) for s in OUTPUTS.scores(raw_of(LABELS), LABELS) if s.unit] == [
        ("score", "", 100), ("accuracy", "shape", 100), ("balanced accuracy", "shape", 100), ("mAP", "tags", 100),
        ("macro F1", "tags", 100), ("R2", "area", 100),
    ]  # fmt: skip


def test_main_tasks_alone_make_the_score():
    raw = raw_of(LABELS)
    raw[:, 2:] = -raw[:, 2:]
    assert OUTPUTS.score(raw, LABELS).value == 100
    every = TaskOutputs(outputs=OUTPUTS.outputs)
    assert every.score(raw, LABELS).value < 60


def test_the_worst_delivered_task_makes_the_drop():
    before, after = raw_of(LABELS), raw_of(LABELS)
    after[:, 2:4] = -after[:, 2:4]  # of the tags
    after[:, 4] = 100  # of an auxiliary task, which no file has
    drop = worst_drop(OUTPUTS, before, after, LABELS)
    assert drop.task == "tags"
    assert drop.points > 20
    assert [score.task for score in main_scores(OUTPUTS, before, LABELS)] == ["", "shape", "tags"]


def test_one_task_has_its_own_drop():
    output, labels = SingleLabel(classes=("a", "b")), np.array([0, 1])
    right = np.eye(2, dtype=np.float32)
    assert worst_drop(output, right, right[::-1], labels)[::2] == (100, "")
    assert main_scores(output, right, labels) == (output.score(right, labels),)


def test_answers_and_decisions_are_those_of_each_task():
    raw = raw_of(LABELS)
    answers = OUTPUTS.to_answers(raw)
    assert answers[:, :2].sum(1) == pytest.approx(np.ones(4))
    assert answers[:2, 4].tolist() == [5, 3]
    np.testing.assert_allclose(OUTPUTS.decide(OUTPUTS.from_answers(answers)), OUTPUTS.decide(raw))
    first = to_predictions(OUTPUTS, answers, OUTPUTS.decide(raw), 1)[0].to_json()["tasks"]
    assert first["shape"]["label"] == "round"
    assert [each["label"] for each in first["tags"]["labels"]] == ["dark"]
    assert first["area"] == {"values": {"area": 5.0}}


def test_a_selection_keeps_roles_and_one_task_is_plain():
    assert OUTPUTS.delivered == ("shape", "tags")
    assert OUTPUTS.select(("shape", "tags")).auxiliary == ()
    assert OUTPUTS.select(("tags",)) == OUTPUTS.outputs["tags"]


def test_thresholds_are_chosen_task_by_task():
    fitted = OUTPUTS.fit_decision(raw_of(LABELS), LABELS)
    assert fitted.outputs["shape"] == OUTPUTS.outputs["shape"]
    assert fitted.outputs["tags"].thresholds != (0.5, -0.5)


def test_they_come_back_from_json():
    assert output_from_json(json.loads(json.dumps(OUTPUTS.to_json()))) == OUTPUTS


TASK = {"name": "a", "kind": "single", "classes": ["x", "y"]}


@pytest.mark.parametrize(("change", "says"), [
    ({"tasks": [TASK]}, "2 to 1000"), ({"tasks": 3}, "no list"), ({"tasks": [TASK, 4]}, "no list"),
    ({"tasks": [TASK, TASK]}, "one name"), ({"tasks": [TASK, {**TASK, "name": "b/c"}]}, "'/'"),
    ({"tasks": [TASK, {**TASK, "name": 4}]}, "no text"), ({"main": ["c"]}, "main"), ({"main": "a"}, "main"),
    ({"auxiliary": ["a", "b"]}, "all tasks are auxiliary"), ({"sizes": []}, "unknown field 'sizes'"),
    ({"tasks": [TASK, {**TASK, "name": "b", "kind": "span"}]}, "kind 'span'"),
    ({"tasks": [TASK, {"name": "b", "kind": "tasks", "tasks": []}]}, "kind 'tasks'"),
])  # fmt: skip
def test_nonsense_is_refused(change, says):
    raw = {"kind": "tasks", "tasks": [TASK, {**TASK, "name": "b"}], **change}
    with pytest.raises(ValueError, match=says):
        output_from_json(raw)


@given(st.lists(st.booleans(), min_size=4, max_size=4), st.integers(0, 2**31))
def test_the_score_does_not_depend_on_examples_without_labels(known, seed):
    rng = np.random.default_rng(seed)
    raw, labels = rng.normal(size=(4, 5)).astype(np.float32), LABELS.copy()
    labels[:, 0] = np.where(known, 1, NAN)
    other = raw.copy()
    other[~np.array(known), :2] = rng.normal(size=(4 - sum(known), 2))
    assert OUTPUTS.score(raw, labels) == OUTPUTS.score(other, labels)
