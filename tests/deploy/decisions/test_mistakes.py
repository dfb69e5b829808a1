import io

import numpy as np
import pytest
from PIL import Image

from effxfer.deploy.decisions.mistakes import ACROSS, EACH, SIDE, contact_sheet, find_mistakes
from effxfer.runtime.outputs.single_label import SingleLabel

TWO = SingleLabel(classes=("ant", "bee"))


def test_what_the_other_file_has_right_comes_first_then_the_most_confident():
    labels = np.array([0, 0, 0, 0, 1])
    raw = np.array([[0, 1], [0, 3], [0, 2], [5, 0], [np.nan, 0]], np.float32)
    before = np.array([[1, 0], [0, 3], [0, 2], [5, 0], [0, 1]], np.float32)
    found = find_mistakes(TWO, labels, raw, before)
    assert [(each.row, each.flipped) for each in found] == [(0, True), (4, True), (1, False), (2, False)]
    assert found[0].confidence == pytest.approx(100 / (1 + np.exp(-1)), abs=1e-4)
    assert found[1].confidence == 0
    assert {(each.label, each.predicted) for each in found[2:]} == {(0, 1)}


def test_a_file_by_itself_flips_nothing_and_few_are_kept():
    raw = np.tile(np.array([[0, 1]], np.float32), (50, 1))
    found = find_mistakes(TWO, np.zeros(50, np.int64), raw, raw)
    assert [each.flipped for each in found] == [False] * EACH


@pytest.mark.parametrize("count", [1, ACROSS, ACROSS + 1, 2 * EACH])
def test_the_sheet_shows_every_picture_and_stays_small(count):
    images = [np.full((20, 20, 3), 10 * i, np.uint8) for i in range(count)]
    content = contact_sheet(images)
    with Image.open(io.BytesIO(content)) as sheet:
        sheet.load()
    assert sheet.format == "JPEG"
    assert sheet.width >= min(count, ACROSS) * SIDE
    assert sheet.height >= -(-count // ACROSS) * SIDE
    assert len(content) < 100_000
    assert content == contact_sheet(images)
