import pytest

from effxfer.runtime.outputs.base import BELOW_ALL
from effxfer.stages.shrink.shrink_report import noise, score_cell


@pytest.mark.parametrize(("gap", "word"), [(1.0, "within"), (-1.9, "within"), (2.1, "beyond"), (-2.1, "beyond")])
def test_a_difference_is_noise_within_its_interval(gap, word):
    assert noise(gap, 1.0) == f"{word} the noise of ±1.96 points"


def test_a_failed_training_has_no_points():
    assert score_cell(BELOW_ALL) is None
    assert score_cell(0.0) == 0.0
