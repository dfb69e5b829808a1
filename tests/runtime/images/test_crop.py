import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from effxfer.runtime.images.crop import graph_input, resize_crop, resized_sides
from effxfer.runtime.images.preprocess import ImageError, Preprocess, normalize
from tests.data.corpus import photo

SIZES = [(64, 48), (48, 64), (51, 51), (33, 500), (501, 37), (7, 9), (32, 32), (224, 225), (375, 500), (400, 100)]
TIMM = {"center": "center", "squash": "squash", "letterbox": "border"}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos"])
@pytest.mark.parametrize(("side", "share"), [(32, 1.0), (32, 0.875), (45, 0.95), (33, 0.9)])
@pytest.mark.parametrize("crop", TIMM)
def test_resize_crop_equals_timm_pixel_for_pixel(size, interpolation, side, share, crop):
    from timm.data import create_transform

    image = photo(3, *size)
    preprocess = Preprocess(size=side, crop_pct=share, crop=crop, interpolation=interpolation)
    transform = create_transform(
        (3, side, side), interpolation=interpolation, crop_pct=share, crop_mode=TIMM[crop], mean=preprocess.mean,
        std=preprocess.std,
    )  # fmt: skip
    ours = resize_crop(image, preprocess)
    theirs = image
    for step in transform.transforms[:-2]:
        theirs = step(theirs)
    np.testing.assert_array_equal(ours, np.asarray(theirs))
    np.testing.assert_array_equal(normalize(ours[None], preprocess)[0], transform(image).numpy())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 48), st.floats(0.3, 1))
def test_resize_crop_equals_torchvision_for_any_size(width, height, side, share):
    from torchvision.transforms import functional as F
    from torchvision.transforms.functional import InterpolationMode

    image = photo(1, width, height)
    resized = F.resize(image, math.floor(side / share), InterpolationMode.BICUBIC)
    expected = np.asarray(F.center_crop(resized, side))
    np.testing.assert_array_equal(resize_crop(image, Preprocess(size=side, crop_pct=share)), expected)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 300), st.floats(0.3, 1))
def test_a_letterbox_keeps_the_aspect_and_all_of_the_image(width, height, side, share):
    across, down = resized_sides(width, height, Preprocess(size=side, crop_pct=share, crop="letterbox"))
    longer = math.floor(side / share)
    assert max(across, down) == longer
    assert across == max(1, round(Fraction(longer * width, max(width, height))))
    assert down == max(1, round(Fraction(longer * height, max(width, height))))


@pytest.mark.parametrize(("size", "box"), [((40, 10), np.s_[12:20, :]), ((10, 40), np.s_[:, 12:20])])
def test_a_letterboxed_image_lies_in_the_middle_of_the_mean_colour(size, box):
    preprocess = Preprocess(size=32, crop="letterbox", mean=(0.0, 0.5, 1.0))
    cut = resize_crop(Image.new("RGB", size, (9, 9, 9)), preprocess)
    inside = np.zeros((32, 32), bool)
    inside[box] = True
    assert (cut[inside] == 9).all()
    assert (cut[~inside] == (0, 128, 255)).all()


def test_squashing_sees_both_ends_of_a_wide_image_and_the_centre_sees_neither():
    wide = Image.new("RGB", (400, 100))
    wide.paste((255, 255, 255), (0, 0, 40, 100))
    assert resize_crop(wide, Preprocess(size=16, crop="squash"))[:, 0].min() > 200
    assert resize_crop(wide, Preprocess(size=16, crop="center")).max() == 0


@pytest.mark.parametrize("crop", TIMM)
def test_extreme_image_is_resized_without_being_blown_up(crop):
    image = photo(1, 2, 40_000)
    assert resize_crop(image, Preprocess(size=128, crop=crop)).shape == (128, 128, 3)
    assert graph_input(image, Preprocess(size=128, crop=crop)).size < 3 * 64_000_000


def test_of_an_extreme_image_the_middle_is_kept():
    image = photo(1, 2, 40_000)
    ours = resize_crop(image, Preprocess(size=128))
    middle = image.crop((0, 19_990, 2, 20_010))
    wanted = np.asarray(middle.resize((128, 1280), Image.Resampling.BICUBIC))[576:704]
    assert np.abs(ours.astype(int) - wanted).mean() < 3


def test_unknown_interpolation_lists_the_known_ones():
    with pytest.raises(ImageError) as caught:
        resize_crop(photo(), Preprocess(interpolation="cubicle"))
    assert "bicubic" in caught.value.hint


@pytest.mark.parametrize(("crop", "share"), list(product(TIMM, (1.0, 0.875))))
def test_preprocessing_goes_through_json(crop, share):
    preprocess = Preprocess(size=32, crop_pct=share, crop=crop)
    assert Preprocess.from_json(preprocess.to_json()) == preprocess
    assert ("crop" in preprocess.to_json()) == (crop != "center")
