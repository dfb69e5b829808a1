import numpy as np
import pytest

from effxfer.transfer.image_text.recall import recall_rows, recalls

AXES = np.eye(6, dtype=np.float32)


def test_each_direction_counts_what_is_right():
    # The first image is nearest to the second one's text, which its own follows.
    images = AXES[[0, 1, 2]] * 1.0
    images[0] = [0.6, 0.8, 0, 0, 0, 0]
    every = recalls(images, AXES[:3], [[0], [1], [2]])
    assert every[1, "image to text"] == pytest.approx(200 / 3)
    assert every[5, "image to text"] == 100
    assert every[1, "text to image"] == 100


def test_a_caption_may_be_of_several_images_and_an_image_have_several():
    images = AXES[[0, 0, 1]]
    every = recalls(images, AXES[:3], [[0], [0], [1, 2]])
    assert every[1, "image to text"] == 100
    assert every[1, "text to image"] == pytest.approx(200 / 3), "the third text is near to no image"


def test_nan_is_never_near():
    images = AXES[:2].copy()
    images[0] = np.nan
    assert recalls(images, AXES[:6], [[5], [1]])[1, "image to text"] == 50


def test_rows_say_what_they_count():
    rows = {row.name: row for row in recall_rows(AXES[:4], AXES[:2], [[0], [0], [1], [1]], "val")}
    assert rows["recall@1/image to text/val"].n == 4
    assert rows["recall@5/text to image/val"].n == 2
    assert rows["recall@1/text to image/val"].of == "different captions"
