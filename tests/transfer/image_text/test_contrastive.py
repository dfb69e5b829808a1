import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from effxfer.transfer.image_text.contrastive import infonce_loss, largest_scale, positive_pairs, sigmoid_loss

SCALE = torch.tensor(5.0)


def units(count, seed):
    return F.normalize(torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)), dim=1)


@given(st.integers(2, 6), st.integers(0, 100))
def test_with_one_right_text_for_each_image_it_is_clips_loss(count, seed):
    images, texts = units(count, seed), units(count, seed + 1)
    logits, own = 5 * images @ texts.T, torch.arange(count)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert infonce_loss(images, texts, SCALE, positive_pairs(own)) == pytest.approx(float(expected), abs=1e-6)


@given(st.integers(2, 6), st.integers(0, 100))
def test_the_sigmoid_takes_each_pair_by_itself(count, seed):
    images, texts, bias = units(count, seed), units(count, seed + 1), torch.tensor(-2.0)
    logits = 5 * images @ texts.T - 2
    expected = F.binary_cross_entropy_with_logits(logits, torch.eye(count), reduction="sum") / count
    loss = sigmoid_loss(images, texts, SCALE, bias, positive_pairs(torch.arange(count)))
    assert loss == pytest.approx(float(expected), rel=1e-5)


def gradient_of(loss, images):
    (gradient,) = torch.autograd.grad(loss, images)
    return gradient


def test_to_the_sigmoid_a_caption_that_two_images_share_is_right_for_both():
    texts = units(2, 0)[[0, 1, 0]]
    images, bias, scale = texts.clone().requires_grad_(True), torch.tensor(-10.0), torch.tensor(20.0)
    shared, strangers = (
        gradient_of(sigmoid_loss(images, texts, scale, bias, positive_pairs(captions)), images)[0]
        for captions in (torch.tensor([0, 1, 0]), torch.arange(3))
    )
    # As strangers, equal texts push the image away from its own.
    assert float(shared @ texts[0]) < 0 < float(strangers @ texts[0])


def test_to_the_softmax_equal_texts_are_equal_whether_or_not_they_are_known_to_be():
    texts = units(2, 0)[[0, 1, 0]]
    images = units(3, 5).requires_grad_(True)
    shared, strangers = (
        gradient_of(infonce_loss(images, texts, SCALE, positive_pairs(captions)), images)
        for captions in (torch.tensor([0, 1, 0]), torch.arange(3))
    )
    torch.testing.assert_close(shared, strangers)


def test_shuffled_pairs_cost_more():
    images = units(32, 0)
    positive = positive_pairs(torch.arange(32))
    matched, mixed = (infonce_loss(images, texts, SCALE, positive) for texts in (images, images.roll(1, 0)))
    assert matched < math.log(32) < mixed


def test_the_scale_has_an_end():
    log_scale = torch.nn.Parameter(torch.tensor(9.0))
    largest_scale(log_scale, 100.0)
    assert float(log_scale.detach().exp()) == pytest.approx(100)
