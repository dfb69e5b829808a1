from types import SimpleNamespace

import pytest

from effxfer.runtime.outputs.base import BELOW_ALL
from effxfer.stages.shrink.shrink_report import lowered_note, noise, overrun_note, score_cell


@pytest.mark.parametrize(("gap", "word"), [(1.0, "within"), (-1.9, "within"), (2.1, "beyond"), (-2.1, "beyond")])
def test_a_difference_is_noise_within_its_interval(gap, word):
    assert noise(gap, 1.0) == f"{word} the noise of ±1.96 points"


@pytest.mark.parametrize(
    ("limit", "seconds", "text"),
    [
        (None, 1e6, ()),
        (60.0, 66.0, ()),
        (60.0, 72.0, ("took 72 s, the time limit is 60 s: one candidate is always built, timed and scored, and what",)),
    ],
)
def test_a_time_limit_that_was_not_kept_is_noted(limit, seconds, text):
    notes = overrun_note(limit, seconds)
    assert len(notes) == len(text)
    assert all(note.startswith(begin) for note, begin in zip(notes, text, strict=True))


def test_a_failed_training_has_no_points():
    assert score_cell(BELOW_ALL) is None
    assert score_cell(0.0) == 0.0


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({}, None),
        ({"lowered_to": 61.0}, "net ships as it was before its training, which lowered it to 61.00 %: lower fit.lr"),
        (
            {"lowered_to": 61.0, "lowered_in": 2},
            "net ships as it was before its training, which lowered it to 61.00 % in 2 of 9 epochs: allow more "
            "time, or lower fit.lr",
        ),
        (
            {"lowered_to": 61.0, "lowered_in": 9, "rounded": 1},
            "net was trained with rounding as it was before its training, which ",
        ),
    ],
)
def test_a_training_that_is_not_kept_is_noted_also_where_rounding_was_trained_then(row, text):
    outcome = SimpleNamespace(winner=SimpleNamespace(name="net"), board={"net": [row]})
    contest = SimpleNamespace(settings=SimpleNamespace(fit=SimpleNamespace(epochs=9)))
    notes = lowered_note(contest, outcome)
    assert len(notes) == (text is not None)
    assert all(note.startswith(text) for note in notes)
