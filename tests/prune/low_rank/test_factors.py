import pytest
import torch
from torch import nn

from effxfer.errors import ModelFileError
from effxfer.net.compression.low_rank_layer import LowRankLayer, dense_name, factorize, largest_rank
from effxfer.prune.low_rank.factors import output_spectra, set_factors_, weight_spectrum
from effxfer.prune.recovery.reconstruct import reconstruct_


def net_of(bias=True):
    """A convolution and a linear layer whose inputs have few directions, as those of real layers."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, 2, 1, bias=bias), nn.ReLU(), nn.Conv2d(24, 32, 3, padding=1, bias=bias), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 40, bias=bias),
    ).eval()  # fmt: skip


def smooth_images(count, seed=0):
    torch.manual_seed(seed)
    return nn.functional.interpolate(torch.randn(count, 3, 3, 3), size=16, mode="bilinear")


def split(net, ranks, spectra):
    smaller = net_of(net[0].bias is not None)
    smaller.load_state_dict(net.state_dict())
    factorize(smaller, ranks=ranks)
    set_factors_(smaller, net, spectra)
    return smaller


def error(net, smaller, images):
    with torch.no_grad():
        return float((net(images) - smaller(images)).square().mean())


RANKS = {"2": 8, "6": 8}


@pytest.mark.parametrize("bias", [True, False])
def test_by_data_loses_less_than_truncated_weights(bias):
    """The claim, on images that the factors have not seen; Denton et al. is the null setting."""
    net = net_of(bias)
    by_data = split(net, RANKS, output_spectra(net, list(RANKS), [smooth_images(64), smooth_images(64, seed=1)]))
    truncated = split(net, RANKS, {name: weight_spectrum(net.get_submodule(name)) for name in RANKS})
    unseen = smooth_images(64, seed=2)
    assert error(net, by_data, unseen) < 0.7 * error(net, truncated, unseen)


@pytest.mark.parametrize("bias", [True, False])
def test_a_rank_that_loses_no_energy_changes_nothing(bias):
    net = net_of(bias)
    with torch.no_grad():
        net[2].weight[4:] = net[2].weight[:1]
    spectra = output_spectra(net, ["2"], [smooth_images(64)])
    assert spectra["2"].loss(5) == pytest.approx(0, abs=1e-12)
    smaller = split(net, {"2": 5}, spectra)
    assert torch.allclose(net(smooth_images(4, seed=3)), smaller(smooth_images(4, seed=3)), atol=1e-5)


def test_the_loss_is_that_of_the_outputs():
    net, images = net_of(), smooth_images(8)
    spectrum = output_spectra(net, ["6"], [images])["6"]
    outputs = []
    net[6].register_forward_hook(lambda _m, _x, y: outputs.append(y.detach()))
    net(images)
    y = outputs[0].double() - outputs[0].double().mean(0)
    kept = y @ spectrum.directions[:, :3] @ spectrum.directions[:, :3].T
    assert spectrum.loss(3) == pytest.approx(float((y - kept).square().sum() / y.square().sum()), rel=1e-5)
    assert spectrum.loss(40) == 0


def test_least_squares_solve_for_the_outputs_of_the_replaced_layer():
    net, images = net_of(), [smooth_images(32, seed=seed) for seed in range(3)]
    smaller = split(net, RANKS, {name: weight_spectrum(net.get_submodule(name)) for name in RANKS})
    before = error(net, smaller, smooth_images(64, seed=9))
    (table,) = reconstruct_(smaller, net, lambda: iter(images), {}).tables
    rows = {row["layer"]: row for row in table.rows}
    assert rows["2.first"]["left alone"] == "the dense network has no such outputs"
    assert rows["2.second"]["error after %"] < rows["2.second"]["error before %"]
    assert error(net, smaller, smooth_images(64, seed=9)) < before


def test_the_two_have_the_place_and_the_shape_of_the_layer():
    net = net_of()
    factorize(net, ranks=RANKS)
    assert isinstance(net[2], LowRankLayer)
    assert [tuple(p.shape) for p in net[2].parameters()] == [(8, 24, 3, 3), (32, 8, 1, 1), (32,)]
    assert (net[2].first.padding, net[0].stride) == ((1, 1), (2, 2))
    assert (dense_name(net, "2.second"), dense_name(net, "2.first"), dense_name(net, "0")) == ("2", "", "0")


def test_the_largest_rank_still_has_fewer_weights():
    layer = nn.Conv2d(24, 32, 3)
    rank = largest_rank(layer)
    assert rank * (24 * 9 + 32) < layer.weight.numel() <= (rank + 1) * (24 * 9 + 32)
    assert largest_rank(nn.Conv2d(8, 8, 3, groups=8)) == 0
    assert largest_rank(nn.ConvTranspose2d(8, 8, 3)) == 0


@pytest.mark.parametrize(
    ("ranks", "text"), [({"9": 1}, "has no layer '9'"), ({"2": 28}, "the rank 28, where 27"), ({"2": 0}, "the rank 0")]
)
def test_an_edit_of_a_damaged_file_is_refused(ranks, text):
    with pytest.raises(ModelFileError, match=text):
        factorize(net_of(), ranks=ranks)
