import warnings

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from effxfer.deploy.export.logits import onnx_logits
from effxfer.deploy.export.onnx import export_onnx, load, read_metadata, write_metadata
from effxfer.deploy.int8.candidate import make_candidate
from effxfer.deploy.int8.equalize import channel_divisors
from effxfer.deploy.int8.recipes import RECIPES
from effxfer.deploy.int8.rescale import MAX_BIAS_CODE, required_scales, rescale
from effxfer.deploy.int8.static import Feeds, prepare
from tests.tiny_net import CLASSES, PREPROCESS, images

FEEDS = Feeds(name="images", rows=images(32), input=PREPROCESS)
DEAD = (0.0, 1e-8, 3e-6, 1e-5)  # of the last two, sums of products overflow beside a bias that fills 32 bits
BIAS = 1.25


def planted(bias, depthwise=False):
    """A network whose logits are the means of channels; some have dead weights, and are nothing but a bias."""
    torch.manual_seed(0)
    count = len(CLASSES)
    first, second = nn.Conv2d(3, count, 3), nn.Conv2d(count, count, 3, groups=count if depthwise else 1)
    net = nn.Sequential(first, nn.ReLU6(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with torch.no_grad():
        for layer in (first, second):
            for channel, weight in enumerate(DEAD):
                layer.weight[channel].fill_(weight)
                layer.bias[channel] = bias
    return net


@pytest.fixture(scope="module")
def dead(tmp_path_factory):
    """Give the exported file of a planted network, made once, and what `prepare` made of it."""
    known = {}

    def make(bias=BIAS, depthwise=False):
        if (bias, depthwise) not in known:
            folder = tmp_path_factory.mktemp("dead")
            net = planted(bias, depthwise)
            file = export_onnx(net, folder / "m.onnx", input=PREPROCESS, classes=CLASSES, key="")
            known[bias, depthwise] = file, prepare(file, folder / "prepared.onnx")
        return known[bias, depthwise]

    return make


def logits(exported, prepared, out, recipe="u8s8"):
    """Quantize a network; give logits of the int8 file and of the float file on all images."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        make_candidate(prepared, out, RECIPES[recipe], FEEDS)
    model = load(out)
    write_metadata(model, read_metadata(exported))
    out.write_bytes(model.SerializeToString())
    exact = RECIPES[recipe].activation == "uint8"  # without it, sums saturate on x86 without VNNI
    return [onnx_logits(file, FEEDS.rows, threads=1, exact=exact) for file in (out, exported)]


@pytest.mark.parametrize(
    ("recipe", "depthwise"),
    [("u8s8", False), ("u8s8", True), ("u8s8-equal-7bit", True), ("s8s8-7bit", False)],
)  # fmt: skip
def test_a_dead_channel_keeps_its_bias(dead, tmp_path, recipe, depthwise):
    got, exact = logits(*dead(depthwise=depthwise), tmp_path / "q.onnx", recipe)
    assert np.abs(exact[:, : len(DEAD)] - BIAS).max() < 1e-3
    assert np.abs(got[:, : len(DEAD)] - BIAS).max() <= 2 * np.ptp(exact) / 255, "a code of the output, rounded twice"
    assert np.abs(got - exact).max() < 0.1 * np.ptp(exact)


@pytest.mark.parametrize("bias", [0.0, -3e4])
def test_no_bias_is_too_small_or_too_large(dead, tmp_path, bias):
    got, exact = logits(*dead(bias), tmp_path / "q.onnx")
    assert np.isfinite(got).all()
    assert np.abs(got - exact)[:, : len(DEAD)].max() <= 2 * np.ptp(exact) / 255


def test_a_constant_image_and_constant_activations_are_quantized(dead, tmp_path):
    feeds = Feeds(name="images", rows=np.full((8, *images(1).shape[1:]), 128, np.uint8), input=PREPROCESS)
    _, prepared = dead(0.0)
    for recipe in ("u8s8", "u8s8-equal"):
        out = make_candidate(prepared, tmp_path / f"{recipe}.onnx", RECIPES[recipe], feeds)
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in load(out).graph.initializer}
        assert all(np.isfinite(value).all() for value in values.values())
        found = [value for name, value in values.items() if name.endswith("_scale")]
        assert found
        assert all((value > 0).all() for value in found)


def test_what_was_rescaled_stays_as_it_is(dead, tmp_path):
    _, prepared = dead()
    model = load(make_candidate(prepared, tmp_path / "q.onnx", RECIPES["u8s8-uncorrected"], FEEDS))
    before = model.SerializeToString()
    assert rescale(model, load(prepared)) == 0
    assert model.SerializeToString() == before


def test_scales_have_room_for_the_bias_and_do_not_round_it_away():
    scale, largest, bias = np.array([1.0, 1e-10, 0.01]), np.array([0.0, 1e-8, 1.27]), np.array([1.0, 1.0, 1.0])
    found = required_scales(scale, largest, bias, 0.02)
    assert found[2] == 0.01
    assert (bias / (0.02 * found) <= MAX_BIAS_CODE).all()
    assert bias[0] / (0.02 * found[0]) > 1e6
    assert (required_scales(np.full(2, 1e-38), np.zeros(2), np.zeros(2), 1e-5) * 1e-5 > 1e-38).all()


def test_activations_without_bound_are_not_equalized():
    assert np.isfinite(channel_divisors(np.array([np.inf, 2.0, 1.0, np.nan]), None)).all()
    assert channel_divisors(np.zeros(3), np.ones(3)).tolist() == [1, 1, 1]
