from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from effxfer.runtime.outputs.registry import output_from_json
from effxfer.runtime.outputs.tagging import UNLABELLED, Tagging, TagLabels
from tests.runtime.outputs.test_entities import TAGS, naive

OUTPUT = Tagging(classes=TAGS)


def labels(*rows: str, groups=None) -> TagLabels:
    """Rows of tags; a dot is a position without one."""
    numbers = [[UNLABELLED if tag == "." else TAGS.index(tag) for tag in row.split()] for row in rows]
    length = max(map(len, numbers))
    tags = [row + [UNLABELLED] * (length - len(row)) for row in numbers]
    return TagLabels(np.arange(len(rows)) if groups is None else np.array(groups), np.array(tags))


def raw_of(*rows: str) -> np.ndarray:
    given_tags = labels(*rows).tags
    return np.float32(5) * np.eye(len(TAGS), dtype=np.float32)[np.where(given_tags < 0, 0, given_tags)]


def value(truth, predicted, name="F1", **options) -> float:
    scores = OUTPUT.scores(raw_of(*predicted), labels(*truth, **options))
    return next(score.value for score in scores if score.metric == name)


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        # Whole names, and pieces of words that have no label.
        (["B-PER . . I-PER O"], ["B-PER O O I-PER O"], 100),
        (["B-PER I-PER O"], ["B-PER O O"], 0),  # a part of a name is wrong, and counts on both sides
        (["B-PER I-PER B-LOC"], ["B-PER I-PER O"], 200 / 3),
        (["B-PER O"], ["I-PER O"], 100),  # a broken beginning is one
        (["B-PER I-PER"], ["B-PER I-LOC"], 0),
        (["O O"], ["O O"], 100),
        (["O O"], ["B-PER O"], 0),
        (["B-PER O", "B-LOC O"], ["B-PER O", "B-PER O"], 50),
    ],
)
def test_f1_by_hand(truth, predicted, expected):
    assert value(truth, predicted) == pytest.approx(expected)


def test_an_entity_across_two_windows_is_one():
    truth = [". O B-PER . .", ". . . I-PER O"]
    assert value(truth, ["O O B-PER O O", "O O O I-PER O"], groups=[0, 0]) == 100
    assert value(truth, ["O O B-PER O O", "O O O B-PER O"], groups=[0, 0]) == 0
    assert value(truth, ["O O B-PER O O", "O O O I-PER O"], groups=[0, 1]) == 100  # two entities in either
    shuffled = labels(*truth, groups=[0, 0])[np.array([0, 1])]
    assert len(shuffled) == 2


def test_the_order_of_texts_does_not_matter():
    truth, rows = labels("B-PER O", "I-LOC I-LOC", "O B-PER", groups=[4, 9, 7]), np.array([2, 0, 1])
    raw = raw_of("B-PER I-PER", "I-LOC I-LOC", "O B-PER")
    assert OUTPUT.scores(raw[rows], truth[rows]) == OUTPUT.scores(raw, truth)


def test_more_is_reported_of_types_and_words():
    scores = OUTPUT.scores(raw_of("B-PER O B-LOC O"), labels("B-PER O B-PER B-LOC"))
    assert {score.metric: (round(score.value, 4), score.n, score.of) for score in scores} == {
        "F1": (40.0, 3, "entities"),
        "precision": (50.0, 2, "entities"),
        "recall": (33.3333, 3, "entities"),
        "F1 LOC": (0.0, 1, "entities"),
        "F1 PER": (66.6667, 2, "entities"),
        "word accuracy": (50.0, 4, "words"),
    }


@given(st.integers(0, 9999), st.integers(1, 6), st.integers(1, 8))
def test_f1_is_that_of_a_count_text_by_text(seed, rows, length):
    rng = np.random.default_rng(seed)
    tags = rng.integers(0, len(TAGS), (rows, length))
    tags[rng.random(tags.shape) < 0.2] = UNLABELLED
    truth, raw = TagLabels(np.arange(rows), tags), rng.standard_normal((rows, length, len(TAGS))).astype(np.float32)
    right = predicted = true = 0
    for row in range(rows):
        places = np.flatnonzero(tags[row] >= 0)
        one, other = (naive([TAGS[t] for t in each[row][places]]) for each in (tags, raw.argmax(2)))
        right, predicted, true = right + len({*one} & {*other}), predicted + len(other), true + len(one)
    expected = 200 * right / (predicted + true) if predicted + true else 100
    assert OUTPUT.score(raw, truth).value == pytest.approx(expected)
    assert OUTPUT.score(raw, truth).n == true


def test_tags_that_mark_no_entities_are_counted_word_by_word():
    output = Tagging(classes=("ADJ", "NOUN", "VERB"))
    rng = np.random.default_rng(0)
    tags = rng.integers(0, 3, (4, 6))
    tags[:, 4:] = UNLABELLED
    raw = rng.standard_normal((4, 6, 3)).astype(np.float32)
    score = output.score(raw, TagLabels(np.arange(4), tags))
    assert (score.metric, score.of, score.n) == ("F1", "words", 16)
    assert score.value == pytest.approx(100 * accuracy_score(tags[:, :4].ravel(), raw[:, :4].argmax(2).ravel()))


def test_a_text_with_nan_has_no_right_word():
    truth, raw = labels("B-PER O", "B-PER O"), raw_of("B-PER O", "B-PER O")
    raw[1, 1, 0] = np.nan
    assert OUTPUT.score(raw, truth).value == pytest.approx(200 / 3)


def test_decisions_where_nothing_is_labelled_are_equal():
    truth = labels("B-PER . O")
    one, other = raw_of("B-PER O O"), raw_of("B-PER B-LOC O")
    assert (OUTPUT.decide(truth.restrict(one)) == OUTPUT.decide(truth.restrict(other))).all()
    assert not (OUTPUT.decide(one) == OUTPUT.decide(other)).all()


def test_the_deviation_of_a_drop_is_that_of_texts_drawn_anew():
    rng, count = np.random.default_rng(1), 400
    truth = labels(*["B-PER O I-LOC"] * count)
    before = raw_of(*["B-PER O I-LOC"] * count)
    wrong = rng.random(count) < 0.2
    after = raw_of(*["O O I-LOC" if bad else "B-PER O I-LOC" for bad in wrong])
    deviation = OUTPUT.drop_deviation(before, after, truth)
    drops = []
    for _ in range(400):
        rows = rng.integers(0, count, count)
        drops.append(OUTPUT.score(before, truth).value - OUTPUT.score(after[rows], truth[rows]).value)
    assert deviation == pytest.approx(np.std(drops), rel=0.35)
    assert OUTPUT.drop_deviation(before, before, truth) == 0
    plain = Tagging(classes=("a", "b", "c", "d", "e"))
    assert plain.drop_deviation(before, after, truth) > 0


def test_values_of_json_are_read_again():
    assert output_from_json(OUTPUT.to_json()) == OUTPUT
    assert OUTPUT.fit_decision(raw_of("O"), labels("O")) is OUTPUT.of_answers()
    answers = OUTPUT.to_answers(raw_of("O B-PER"))
    assert np.allclose(answers.sum(2), 1)
    assert (OUTPUT.decide(OUTPUT.from_answers(answers)) == OUTPUT.decide(raw_of("O B-PER"))).all()
    assert replace(OUTPUT, classes=("a",)).width == 1
