import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.transfer.self_supervised.mae import MaskedAutoencoder, draw_orders, encode, hidden_error, patches_of
from tests.transfer.tasks import PREPROCESS, body, task

VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}


@given(st.integers(1, 3), st.integers(2, 5), st.integers(2, 6), st.integers(0, 999))
@settings(deadline=None, max_examples=30)
def test_the_error_is_that_of_standardized_hidden_patches(count, patches, numbers, seed):
    rng = torch.Generator().manual_seed(seed)
    rebuilt, true = torch.randn(2, count, patches, numbers, generator=rng, dtype=torch.float64)
    orders = draw_orders(count, patches, rng)
    hidden, errors = orders[:, 1:], []
    for image in range(count):
        for patch in hidden[image].tolist():
            pixels = true[image, patch].tolist()
            mean = sum(pixels) / numbers
            variance = sum((x - mean) ** 2 for x in pixels) / (numbers - 1)
            pairs = zip(rebuilt[image, patch].tolist(), pixels, strict=True)
            errors += [(guess - (x - mean) / (variance + 1e-6) ** 0.5) ** 2 for guess, x in pairs]
    assert float(hidden_error(rebuilt, true, hidden)) == pytest.approx(sum(errors) / len(errors), rel=1e-6)


def test_patches_are_in_the_order_of_the_embedding():
    images = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    patches = patches_of(images, 2)
    assert patches.shape == (2, 4, 12)
    assert torch.equal(patches[1, 2], images[1, :, 2:, :2].flatten())
    assert sorted(draw_orders(1, 9, torch.Generator().manual_seed(0))[0].tolist()) == list(range(9))


def test_the_body_sees_visible_patches_alone():
    net = Net({"source": "timm:vit_tiny_patch16_224", "args": VIT}, PREPROCESS).eval()
    images, visible = torch.randn(2, 3, 16, 16), torch.tensor([[0, 5, 3], [15, 1, 2]])
    tokens = encode(net.body, images, visible)
    assert tokens.shape == (2, 4, 24), "with the class token"
    changed = images.clone()
    changed[0, :, 12:, 12:] += 1  # the last patch, which is hidden in the first image
    changed[1, :, 8:, :4] += 1
    torch.testing.assert_close(encode(net.body, changed, visible), tokens)
    changed[1, :, 12:, 12:] += 1
    assert not torch.allclose(encode(net.body, changed, visible)[1], tokens[1])
    every = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(encode(net.body, images, every), net.body.forward_features(images))


def test_other_bodies_are_refused():
    with pytest.raises(SettingsError, match="mae needs a vision transformer of timm"):
        MaskedAutoencoder().prepare(body(), [task()])
