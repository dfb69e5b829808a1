"""Tasks of whole texts beside tasks of words: labels, outputs and scores."""

import numpy as np
import pytest

from effxfer.runtime.multi_task.task_labels import TaskLabels, concat_labels
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.multi_task.worst_task import main_scores, worst_drop
from effxfer.runtime.outputs.registry import output_from_json
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.outputs.tagging import UNLABELLED, Tagging

NONE = UNLABELLED
OUTPUTS = TaskOutputs(
    outputs={"intent": SingleLabel(classes=("call", "play")), "slots": Tagging(classes=("B-who", "I-who", "O"))}
)
# Three texts: with both labels, without tags, without an intent.
LABELS = TaskLabels(
    np.arange(3),
    np.array([[1], [0], [np.nan]], np.float32),
    {"slots": np.array([[NONE, 2, 0, 1, NONE], [NONE] * 5, [NONE, 0, NONE, NONE, NONE]])},
    OUTPUTS.word_columns(),
)


def raw_of(labels=LABELS):
    """Outputs of a network that is right everywhere: an intent at each position, and tags."""
    intent = np.eye(2)[np.nan_to_num(labels.numbers[:, 0]).astype(int)]
    tags = np.eye(3)[np.where(labels.tags["slots"] == NONE, 2, labels.tags["slots"])]
    return np.concatenate([np.repeat(intent[:, None], tags.shape[1], 1), tags], 2).astype(np.float32)


def test_outputs_are_of_positions_as_soon_as_one_task_tags_words():
    assert OUTPUTS.per == "position"
    assert OUTPUTS.select(["intent"]).per == "example"
    assert OUTPUTS.label_columns() == {"intent": slice(0, 1), "slots": slice(1, 1)}
    assert OUTPUTS.word_columns() == {"slots": slice(2, 5)}
    assert output_from_json(OUTPUTS.to_json()) == OUTPUTS


def test_each_task_is_measured_on_the_texts_that_have_its_label():
    parts = {part.name: part for part in OUTPUTS.parts(raw_of(), LABELS)}
    assert parts["intent"].labels.tolist() == [1, 0]
    assert parts["intent"].raw.shape == (2, 2)
    assert parts["slots"].raw.shape == (2, 5, 3)
    assert len(parts["slots"].labels) == 2
    raw = raw_of()
    raw[0, :, :2] = raw[0, :, 1::-1]  # a wrong intent
    raw[2, 1, 2:] = (0, 0, 1)  # one of two entities is not found: precision 1, recall 1/2
    mean, intent, slots = main_scores(OUTPUTS, raw, LABELS, "texts")
    assert (intent.value, intent.task, slots.task, slots.of) == (50, "intent", "slots", "entities")
    assert slots.value == pytest.approx(200 / 3)
    assert mean.value == pytest.approx((50 + 200 / 3) / 2)


def test_the_task_that_lost_most_makes_the_drop():
    worse = raw_of()
    worse[:, :, 2:] = (0, 0, 1)
    drop = worst_drop(OUTPUTS, raw_of(), worse, LABELS)
    assert (drop.points, drop.task) == (100, "slots")


def test_positions_without_a_tag_take_no_part_in_decisions():
    other = raw_of() + 0
    other[:, 0, 2:] = (9, 0, 0)
    other[1, :, 2:] = (0, 9, 0)
    same = OUTPUTS.decide(LABELS.restrict(raw_of())) == OUTPUTS.decide(LABELS.restrict(other))
    assert same.all()
    other[0, 1, 2:] = (9, 0, 0)
    assert not (OUTPUTS.decide(LABELS.restrict(raw_of())) == OUTPUTS.decide(LABELS.restrict(other))).all()
    assert OUTPUTS.decide(raw_of()).shape == (3, 1 + 5)


def test_a_text_that_is_drawn_twice_counts_twice():
    twice = LABELS[np.array([0, 0])]
    (_, slots) = main_scores(OUTPUTS, raw_of(twice), twice)[1:]
    assert (slots.value, slots.n) == (100, 2)


def test_labels_of_shorter_texts_are_filled_up():
    short = TaskLabels(
        np.arange(1), np.array([[0]], np.float32), {"slots": np.array([[NONE, 2]])}, OUTPUTS.word_columns()
    )
    joined = concat_labels([short, LABELS[1:]])
    assert joined.tags["slots"].tolist()[0] == [NONE, 2, NONE, NONE, NONE]
    assert len(joined) == len(joined.groups) == 3


def test_probabilities_are_those_of_each_task():
    answers = OUTPUTS.to_answers(raw_of())
    np.testing.assert_allclose(answers[:, :, :2].sum(2), 1)
    np.testing.assert_allclose(answers[:, :, 2:].sum(2), 1)
