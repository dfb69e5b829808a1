"""Augmentation: what it does by hand, and what holds for any batch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from torch.nn import functional as F

from effxfer.data.batches.augment import Augment, _draw_crops, _sample_boxes, augment, mix_images, normalize
from effxfer.data.batches.batches import make_generator
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.images.preprocess import normalize as normalize_deployed

few = profile(max_examples=40, deadline=None)
seeds = st.integers(0, 2**31)
crops = st.sampled_from(["resized", "padded", "affine", "none"])
hows = st.builds(
    Augment, crop=crops, scale=st.floats(0.01, 1), flip=st.booleans(), colour=st.floats(0, 0.99),
    grey=st.floats(0, 1), contours=st.floats(0, 1), blur=st.floats(0, 1),
)  # fmt: skip


def pixels(count: int = 5, side: int = 12, seed: int = 0) -> torch.Tensor:
    made = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, side, side, 3), generator=made, dtype=torch.uint8)


def box(*rows):
    return torch.tensor(rows, dtype=torch.float32)


@few
@given(hows, seeds, st.integers(1, 6), st.integers(8, 20), st.integers(8, 14), st.booleans())
def test_any_batch_keeps_type_and_shape(how, seed, count, canvas, size, wide):
    canvas = size if how.crop != "resized" else canvas
    aspect = torch.linspace(0.1, 8, count) if wide else None
    out = augment(pixels(count, canvas), aspect, size, how, make_generator(seed))
    assert out.shape == (count, size, size, 3)
    assert out.dtype is torch.uint8


@few
@given(hows, seeds)
def test_a_batch_depends_on_its_generator_alone(how, seed):
    torch.manual_seed(1)
    one = augment(pixels(), None, 12, how, make_generator(seed))
    torch.rand(7)
    np.random.default_rng(0).random()
    other = augment(pixels(), None, 12, how, make_generator(seed))
    assert torch.equal(one, other)


@few
@given(hows, seeds, st.integers(1, 4))
def test_an_image_alone_is_a_batch_of_one(how, seed, count):
    """No image leaks into another one."""
    images = pixels(count)
    out = augment(images, None, 12, how, make_generator(seed))
    images[0] = 255 - images[0]
    again = augment(images, None, 12, how, make_generator(seed))
    assert torch.equal(out[1:], again[1:])


@pytest.mark.parametrize("side", [7, 8, 12, 31])
def test_the_whole_box_is_the_image(side):
    images = pixels(side=side)
    assert torch.equal(_sample_boxes(images, box([0.5, 0.5, 1, 1]).expand(5, 4), side), images)


@pytest.mark.parametrize("side", [8, 13])
def test_a_negative_width_mirrors(side):
    images = pixels(side=side)
    assert torch.equal(_sample_boxes(images, box([0.5, 0.5, -1, 1]).expand(5, 4), side), images.flip(2))


def test_a_box_of_whole_pixels_is_a_crop():
    images = pixels(count=1, side=16)
    crop = _sample_boxes(images, box([(4 + 4) / 16, (2 + 4) / 16, 8 / 16, 8 / 16]), 8)
    assert torch.equal(crop, images[:, 2:10, 4:12])


def test_what_lies_outside_is_black():
    images = torch.full((1, 8, 8, 3), 200, dtype=torch.uint8)
    out = _sample_boxes(images, box([0.5 + 2 / 8, 0.5, 1, 1]), 8)
    assert (out[:, :, :6] == 200).all()
    assert (out[:, :, 6:] == 0).all()


def test_nothing_asked_is_nothing_done():
    how = Augment(crop="none", flip=False)
    assert torch.equal(augment(pixels(), None, 12, how, make_generator(1)), pixels())
    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    assert mix_images(images, labels, 3, how, make_generator(1)) == (images, labels)


def test_a_flip_mirrors_about_half_of_the_images_whole():
    images = pixels(count=400)
    for crop in ("none", "resized"):
        out = augment(images, None, 12, Augment(crop=crop, scale=1.0), make_generator(3))
        mirrored = [torch.equal(a, b.flip(1)) for a, b in zip(out, images, strict=True)]
        kept = [torch.equal(a, b) for a, b in zip(out, images, strict=True)]
        if crop == "none":
            assert sum(mirrored) + sum(kept) == 400
            assert 140 < sum(mirrored) < 260


@few
@given(seeds, st.floats(0.05, 1), st.floats(0.2, 5))
def test_crops_have_the_area_and_the_true_aspect_that_were_asked_for(seed, scale, aspect):
    x, y, width, height = _draw_crops(200, torch.full((200,), aspect), scale, make_generator(seed)).unbind(1)
    assert (x - width / 2 >= -1e-5).all()
    assert (x + width / 2 <= 1 + 1e-5).all()
    assert (y - height / 2 >= -1e-5).all()
    assert (y + height / 2 <= 1 + 1e-5).all()
    assert (width * height <= 1 + 1e-5).all()
    free = (width < 1) & (height < 1)
    true = (width * aspect / height)[free]
    assert (true > 3 / 4 - 1e-3).all()
    assert (true < 4 / 3 + 1e-3).all()
    assert ((width * height)[free] >= scale - 1e-5).all()


def test_a_scale_of_one_takes_nearly_everything():
    width, height = _draw_crops(500, None, 1.0, make_generator(0)).unbind(1)[2:]
    assert (width.maximum(height) == 1).all()
    assert (width.minimum(height) > 0.85).all()


def test_a_squashed_disc_comes_out_as_round_as_the_crop_allows():
    """An image twice as wide as high, squashed to a square canvas, is stretched back by the shape of the crop."""
    side, count = 64, 40
    row, column = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    disc = ((2 * column - side) ** 2 + (row - side / 2) ** 2 < 12**2).to(torch.uint8) * 255
    aspect = torch.full((count,), 2.0)
    how = Augment(crop="resized", scale=0.3, flip=False)
    out = augment(disc[None, :, :, None].expand(count, -1, -1, 3), aspect, side, how, make_generator(4))[..., 0] > 127
    boxes = _draw_crops(count, aspect, 0.3, make_generator(4))
    free = [shape for shape, (_, _, width, height) in zip(out, boxes, strict=True) if max(width, height) < 1]
    whole = [s for s in free if not (s[0].any() or s[-1].any() or s[:, 0].any() or s[:, -1].any())]
    assert len(whole) >= 5
    for shape in whole:
        wide, high = int(shape.any(0).sum()), int(shape.any(1).sum())
        assert 3 / 4 - 0.08 < wide / high < 4 / 3 + 0.12


def test_padded_crops_shift_by_at_most_an_eighth():
    images = torch.zeros(200, 16, 16, 3, dtype=torch.uint8)
    images[:, 8, 8] = 255
    out = augment(images, None, 16, Augment(crop="padded", flip=False), make_generator(5))
    places = (out[..., 0] == 255).nonzero()
    assert len(places) == 200, "whole pixels: nothing is blurred"
    assert (places[:, 1:] - 8).abs().max() == 2
    assert len({tuple(place) for place in places[:, 1:].tolist()}) == 25


@few
@given(seeds, st.floats(0, 0.9))
def test_colours_of_grey_images_stay_grey(seed, strength):
    grey = pixels()[..., :1].expand(-1, -1, -1, 3)
    out = augment(grey, None, 12, Augment(crop="none", flip=False, colour=strength), make_generator(seed)).int()
    assert (out - out[..., :1]).abs().max() <= 1


def test_a_stronger_colour_changes_more():
    def change(strength):
        how = Augment(crop="none", flip=False, colour=strength)
        return (augment(pixels(50), None, 12, how, make_generator(6)).int() - pixels(50).int()).abs().float().mean()

    assert change(0.0) == 0 < change(0.1) < change(0.5)


alphas = st.floats(0.001, 10)


@few
@given(seeds, st.floats(0, 5), st.floats(0, 5), st.integers(1, 7))
def test_mixed_labels_sum_to_one(seed, mixup, cutmix, count):
    how = Augment(mixup=mixup, cutmix=cutmix)
    images = torch.rand(count, 3, 8, 8, generator=make_generator(seed))
    labels = torch.arange(count) % 3
    mixed, soft = mix_images(images, labels, 3, how, make_generator(seed, "mix"))
    assert mixed.shape == images.shape
    assert bool(mixed.isfinite().all())
    if mixup or cutmix:
        assert torch.allclose(soft.sum(1), torch.ones(count), atol=1e-6)
        assert ((soft >= 0) & (soft <= 1)).all()
    else:
        assert torch.equal(soft, labels)


@few
@given(seeds, alphas)
def test_mixup_blends_images_as_it_blends_labels(seed, alpha):
    """Images that are their label's one-hot colour show what share of which label they hold."""
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    images = F.one_hot(labels, 3).float()[:, :, None, None].expand(-1, -1, 4, 4)
    for how in (Augment(mixup=alpha), Augment(cutmix=alpha)):
        mixed, soft = mix_images(images, labels, 3, how, make_generator(seed))
        assert torch.allclose(mixed.mean((2, 3)), soft, atol=1e-5)


def test_cutmix_pastes_a_rectangle():
    labels = torch.tensor([0, 1])
    images = F.one_hot(labels, 2).float()[:, :1, None, None].expand(-1, 3, 16, 16)
    for seed in range(20):
        mixed, _ = mix_images(images, labels, 2, Augment(cutmix=1.0), make_generator(seed))
        changed = (mixed[0, 0] != images[0, 0]).nonzero()
        if len(changed):
            top, left = changed.min(0).values
            bottom, right = changed.max(0).values
            assert len(changed) == (bottom - top + 1) * (right - left + 1)


def test_with_both_alphas_either_is_drawn():
    labels = torch.tensor([0, 1, 2, 3])
    images = F.one_hot(labels, 4).float()[:, :3, None, None].expand(-1, -1, 16, 16)
    flat = [
        bool((out == out[..., :1, :1]).all())
        for seed in range(40)
        for out, _ in [mix_images(images, labels, 4, Augment(mixup=1.0, cutmix=1.0), make_generator(seed))]
    ]
    assert 5 < sum(flat) < 35, "mixup leaves every image of one colour"


@few
@given(seeds)
def test_training_sees_numbers_as_the_exported_model_does(seed):
    preprocess = Preprocess(size=12, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    images = pixels(seed=seed)
    found = normalize(images, preprocess)
    assert found.shape == (5, 3, 12, 12)
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, torch.from_numpy(normalize_deployed(images.numpy(), preprocess)))


def test_distortions_are_small_and_leave_the_paper_as_it_is():
    drawing = torch.full((200, 28, 28, 3), 255, dtype=torch.uint8)
    drawing[:, 10:18, 13:15] = 0
    out = augment(drawing, None, 28, Augment(crop="affine", flip=False), make_generator(5))
    assert bool((out[:, 0, :, 0] == 255).all()), "beyond the border is the border's colour"
    ink = (255 - out.float()).sum((1, 2, 3)) / (255 - drawing[0].float()).sum()
    assert 0.5 < float(ink.min()) < 0.9
    assert 1.1 < float(ink.max()) < 2
    rows, columns = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    weight = (255 - out[..., 0].float()) / (255 - out[..., 0].float()).sum((1, 2), keepdim=True)
    centre = torch.stack([(weight * rows).sum((1, 2)), (weight * columns).sum((1, 2))], 1) - 13.5
    assert 1.5 < float(centre.abs().max()) < 3
    unchanged = (out == drawing).flatten(1).all(1).float().mean()
    assert unchanged < 0.1, "each of seven distortions is left out in half of the images"


def test_grey_and_blur_draw_nothing_where_they_are_off():
    off, on = Augment(colour=0.3), Augment(colour=0.3, grey=1e-9, blur=1e-9)
    first, second = (augment(pixels(), None, 12, how, make_generator(3)) for how in (off, on))
    assert torch.equal(first, second)
    drawn = [make_generator(3), make_generator(3)]
    augment(pixels(), None, 12, off, drawn[0])
    augment(pixels(), None, 12, on, drawn[1])
    assert not torch.equal(drawn[0].get_state(), drawn[1].get_state())


def test_grey_images_have_equal_channels_and_their_brightness():
    out = augment(pixels(), None, 12, Augment(crop="none", flip=False, grey=1.0), make_generator(0))
    assert torch.equal(out[..., 0], out[..., 1])
    assert torch.equal(out[..., 0], out[..., 2])
    luma = pixels().float() @ torch.tensor([0.299, 0.587, 0.114])
    assert torch.equal(out[..., 0], luma.round().to(torch.uint8))
    half = augment(pixels(400), None, 12, Augment(crop="none", flip=False, grey=0.25), make_generator(0))
    share = (half[..., 0] == half[..., 1]).all((1, 2)).float().mean()
    assert 0.15 < share < 0.35


def test_blur_keeps_what_is_even_and_spreads_a_point_alike_to_all_sides():
    how = Augment(crop="none", flip=False, blur=1.0)
    even = torch.full((3, 12, 12, 3), 77, dtype=torch.uint8)
    assert torch.equal(augment(even, None, 12, how, make_generator(0)), even)
    point = torch.zeros(6, 41, 41, 3, dtype=torch.uint8)
    point[:, 20, 20] = 255
    out = augment(point, None, 41, how, make_generator(0))
    assert torch.equal(out, out.flip(1))
    assert torch.equal(out, out.transpose(1, 2))
    assert (out[:, 20, 20] < 255).any()
    assert (out.float().sum((1, 2, 3)) / 3 - 255).abs().max() < 15
