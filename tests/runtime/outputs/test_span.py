from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.runtime.outputs.registry import output_from_json
from effxfer.runtime.outputs.span import NONE, Span, SpanLabels, best_spans

ALWAYS, OPEN = Span(), Span(threshold=(0.0,))


def labels(answers, context=((3, 9),), offset=(0,), groups=(0,)) -> SpanLabels:
    """Rows of a question each, whose answers are tokens of the whole context."""
    most = max(1, *map(len, answers)) if len(answers) > 1 else max(1, len(answers[0]))
    padded = [[*each, *[(-1, -1)] * (most - len(each))] for each in answers]
    places = np.full((len(groups), 2), NONE)
    arrays = (np.array(each, np.int64) for each in (groups, context, offset))
    return SpanLabels(*arrays, places, np.array(padded, np.int64).reshape(len(groups), most, 2))


def raw_of(*spans, length=10, height=4.0) -> np.ndarray:
    """Logits that are largest at a beginning and an end; None is no answer."""
    raw = np.zeros((len(spans), length, 2), np.float32)
    for row, span in enumerate(spans):
        first, last = span or (0, 0)
        raw[row, first, 0], raw[row, last, 1] = height, height
    return raw


def values(output, raw, truth) -> dict[str, float]:
    return {score.metric: pytest.approx(score.value) for score in output.scores(raw, truth)}


@pytest.mark.parametrize(
    ("answers", "span", "f1", "exact"),
    [
        ([(1, 2)], (4, 5), 100, 100),  # position 3 is token 0
        ([(1, 2)], (4, 4), 200 / 3, 0),
        ([(1, 2)], (4, 7), 200 / 3, 0),
        ([(1, 2)], (7, 8), 0, 0),
        ([(1, 2), (4, 5)], (7, 8), 100, 100),  # the best of several answers
        ([(0, 5)], (3, 8), 100, 100),
    ],
)
def test_f1_and_exact_match_by_hand(answers, span, f1, exact):
    assert values(ALWAYS, raw_of(span), labels([answers])) == {"F1": f1, "exact match": exact}


@pytest.mark.parametrize(
    ("answers", "span", "expected"),
    [([], None, 100), ([], (4, 5), 0), ([(1, 2)], None, 0), ([(1, 2)], (4, 5), 100)],
)
def test_no_answer_is_right_where_there_is_none(answers, span, expected):
    assert values(OPEN, raw_of(span), labels([answers]))["F1"] == expected


def test_of_several_windows_the_best_span_counts_with_the_tokens_of_the_whole_text():
    truth = labels([[(7, 8)]] * 2, context=[(3, 9), (3, 9)], offset=[0, 4], groups=[5, 5])
    raw = raw_of((5, 6), (6, 7))
    raw[1] *= 2
    assert values(ALWAYS, raw, truth) == {"F1": 100, "exact match": 100}
    assert ALWAYS.score(raw, truth).n == 1
    raw[0] *= 3
    assert values(ALWAYS, raw, truth)["F1"] == 0


def test_the_window_that_is_least_sure_of_no_answer_decides():
    truth = labels([[(1, 2)]] * 2, context=[(3, 9), (3, 9)], offset=[0, 4], groups=[0, 0])
    raw = raw_of((4, 5), None, height=8)
    raw[0, 0], raw[1, 0] = 1, 10
    assert values(OPEN, raw, truth)["F1"] == 100
    raw[0, 0] = 20
    assert values(OPEN, raw, truth)["F1"] == 0


def test_only_the_context_can_be_chosen():
    raw = raw_of((4, 5))
    raw[0, 1:3], raw[0, 9] = 50, 50  # the question, and the separator behind the context
    truth = labels([[(1, 2)]])
    assert values(ALWAYS, raw, truth)["F1"] == 100
    assert ALWAYS.decide(truth.restrict(raw)).tolist() == [[4, 5]]


def test_a_row_without_context_has_no_answer():
    truth = labels([[(1, 2)]], context=[(0, 0)])
    assert values(ALWAYS, raw_of((4, 5)), truth)["F1"] == 0
    assert ALWAYS.decide(truth.restrict(raw_of((4, 5)))).tolist() == [[NONE, NONE]]
    assert ALWAYS.decide(np.zeros((1, 1, 2), np.float32)).tolist() == [[NONE, NONE]]


@given(st.integers(0, 9999), st.integers(1, 12))
def test_the_best_span_is_that_of_all_pairs(seed, length):
    raw = np.random.default_rng(seed).standard_normal((3, length + 1, 2)).astype(np.float32)
    best = best_spans(raw)
    for row in range(3):
        pairs = {(i, j): raw[row, i, 0] + raw[row, j, 1] for i in range(1, length + 1) for j in range(i, length + 1)}
        assert best.score[row] == pytest.approx(max(pairs.values()))
        assert pairs[tuple(best.places[row])] == pytest.approx(max(pairs.values()))
        assert best.null[row] == pytest.approx(raw[row, 0].sum())


@given(st.integers(0, 9999), st.integers(2, 20))
def test_no_threshold_has_a_better_f1_than_the_chosen_one(seed, count):
    rng = np.random.default_rng(seed)
    answers = [[] if rng.random() < 0.5 or not row else [(1, 3)] for row in range(count)]
    truth = labels(answers, [(3, 9)] * count, [0] * count, range(count))
    raw = rng.standard_normal((count, 10, 2)).astype(np.float32)
    chosen = OPEN.fit_decision(raw, truth)
    reached = chosen.score(raw, truth).value
    best = best_spans(truth.restrict(raw))
    for margin in (best.score - best.null).tolist():
        for threshold in (margin - 1e-3, margin + 1e-3):
            assert replace(OPEN, threshold=(threshold,)).score(raw, truth).value <= reached + 1e-6


def test_without_unanswerable_questions_there_is_nothing_to_choose():
    truth = labels([[(1, 2)]])
    assert ALWAYS.fit_decision(raw_of((4, 5)), truth) is ALWAYS
    assert OPEN.fit_decision(raw_of((4, 5)), truth) is OPEN


def test_a_question_with_nan_is_wrong():
    raw, truth = raw_of((4, 5), None), labels([[(1, 2)], []], [(3, 9)] * 2, [0, 0], [0, 1])
    assert values(OPEN, raw, truth)["F1"] == 100
    raw[:, 8, 1] = np.nan
    scores = values(OPEN, raw, truth)
    assert scores == {"F1": 0, "exact match": 0, "F1 answerable": 0, "F1 unanswerable": 0}


def test_the_deviation_of_a_drop_is_that_of_a_mean():
    rng, count = np.random.default_rng(0), 300
    truth = labels([[(1, 2)]] * count, [(3, 9)] * count, [0] * count, range(count))
    before = raw_of(*[(4, 5)] * count)
    after = raw_of(*[(7, 8) if bad else (4, 5) for bad in rng.random(count) < 0.3])
    share = 1 - ALWAYS.score(after, truth).value / 100
    expected = 100 * np.sqrt(share * (1 - share) / count)
    assert ALWAYS.drop_deviation(before, after, truth) == pytest.approx(expected)


def test_values_of_json_are_read_again():
    for output in (ALWAYS, replace(OPEN, threshold=(1.25,))):
        assert output_from_json(output.to_json()) == output
    for wrong in ({"threshold": [1, 2]}, {"classes": ["a"]}, {"other": [1]}):
        with pytest.raises(ValueError, match=r"threshold has 2|2 columns|unknown field"):
            output_from_json({**OPEN.to_json(), **wrong})
    assert (ALWAYS.of_answers(), ALWAYS.width) == (ALWAYS, 2)
    assert ALWAYS.from_answers(ALWAYS.to_answers(raw_of((4, 5)))).tolist() == raw_of((4, 5)).tolist()
