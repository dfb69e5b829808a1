from types import SimpleNamespace

import pytest

from effxfer.runtime.outputs.base import BELOW_ALL
from effxfer.stages.shrink.shrink_report import lowered_note, noise, score_cell


@pytest.mark.parametrize(("gap", "word"), [(1.0, "within"), (-1.9, "within"), (2.1, "beyond"), (-2.1, "beyond")])
def test_a_difference_is_noise_within_its_interval(gap, word):
    assert noise(gap, 1.0) == f"{word} the noise of ±1.96 points"


def test_a_failed_training_has_no_points():
    assert score_cell(BELOW_ALL) is None
    assert score_cell(0.0) == 0.0


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({}, None),
        ({"lowered_to": 61.0}, "net ships as it was before its training, which lowered it to 61.00 %: lower fit.lr"),
        ({"lowered_to": 61.0, "rounded": 1}, "net was trained with rounding as it was before its training, which "),
    ],
)
def test_a_training_that_is_not_kept_is_noted_also_where_rounding_was_trained_then(row, text):
    outcome = SimpleNamespace(winner=SimpleNamespace(name="net"), board={"net": [row]})
    notes = lowered_note(outcome)
    assert len(notes) == (text is not None)
    assert all(note.startswith(text) for note in notes)
