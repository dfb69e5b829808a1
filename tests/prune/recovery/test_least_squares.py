import warnings
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import nn

from effxfer.prune.recovery.least_squares import Grid, change, group_weight, is_linear, normal_equations, rows_of


def rows(layer, x, wanted=None, number=0):
    with torch.no_grad():
        outputs = layer(x)
        grid = Grid.of(layer, outputs, number)
        given = grid.outputs(layer, outputs)
        return list(rows_of(layer, grid, x, given if wanted is None else grid.outputs(layer, wanted), given))


@settings(max_examples=40, deadline=None)
@given(
    side=st.integers(3, 40), kernel=st.sampled_from([1, 2, 3]), stride=st.integers(1, 3), padding=st.integers(0, 2),
    dilation=st.integers(1, 2), groups=st.sampled_from([1, 2, 4]), bias=st.booleans(), number=st.integers(0, 9),
)  # fmt: skip
def test_a_layers_outputs_are_its_weights_times_what_it_sees(
    side, kernel, stride, padding, dilation, groups, bias, number
):  # fmt: skip
    torch.manual_seed(0)
    if side + 2 * padding < dilation * (kernel - 1) + 1:
        return
    layer = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, bias)
    assert all(is_linear(layer, *part) for part in rows(layer, torch.randn(3, 4, side, side + 1), number=number))


@pytest.mark.parametrize("side", [7, 16, 33])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_layers_that_pad_by_themselves(side, kernel):
    x = torch.randn(3, 4, side, side + 1)
    layers = [nn.Conv2d(4, 4, kernel, padding="same", groups=2), nn.Conv2d(4, 4, kernel, padding="valid", stride=2)]
    layers += [Conv2dSame(4, 4, kernel, stride=stride, groups=4) for stride in (1, 2, 3)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel", UserWarning)
        for layer, number in product(layers, range(5)):
            assert all(is_linear(layer, *part) for part in rows(layer, x, number=number)), layer


@pytest.mark.parametrize("shape", [(5, 4), (5, 7, 4), (5, 3, 3, 4), (2, 200, 4)])
def test_linear_layers_too(shape):
    layer = nn.Linear(4, 3)
    assert all(is_linear(layer, *part) for part in rows(layer, torch.randn(shape), number=3))


def test_all_places_of_small_maps_and_at_most_64_of_large_ones():
    layer = nn.Conv2d(3, 2, 3, padding=1)
    assert [sum(part[0].shape[1] for part in rows(layer, torch.randn(2, 3, s, s))) for s in (4, 8)] == [32, 128]
    seen = [sum(part[0].shape[1] for part in rows(layer, torch.randn(2, 3, 30, 30), number=n)) for n in range(4)]
    assert seen == [128, 128, 98, 98]


def test_the_change_is_what_least_squares_gives():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 4, 3, bias=False), torch.randn(50, 3, 6, 6)
    better = nn.Conv2d(3, 4, 3, bias=False)
    (part,) = rows(layer, x, better(x).detach())
    normal = normal_equations(*part)
    found = change(normal, 1e-9)
    torch.testing.assert_close(
        found.float(), group_weight(better.weight - layer.weight, layer).detach(), rtol=1e-3, atol=1e-4
    )
    assert normal.residual_after(found) < 1e-6 * normal.missing
    direct = (part[0] @ group_weight(layer.weight, layer).detach() - part[1]).square().sum()
    assert normal.missing == pytest.approx(float(direct), rel=1e-4)


@pytest.mark.parametrize("ridge", [1e-4, 1e-1, 10.0])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_ridge_and_a_mask_never_make_it_worse_and_the_mask_holds(ridge, share):
    torch.manual_seed(1)
    layer, x = nn.Conv2d(4, 6, 3, groups=2), torch.randn(20, 4, 5, 5)
    (part,) = rows(layer, x, torch.randn(20, 6, 3, 3))
    normal = normal_equations(*part)
    allowed = torch.rand(2, 19, 3) < share
    found = change(normal, ridge, allowed)
    assert not found[~allowed].any()
    assert normal.residual_after(found) <= normal.missing
    if share == 1:
        torch.testing.assert_close(found, change(normal, ridge))


def test_weights_that_are_changed_on_their_way_are_noticed():
    class Standardized(nn.Conv2d):
        def forward(self, x):
            return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)

    assert not all(
        is_linear(layer, *part) for layer in [Standardized(3, 4, 3)] for part in rows(layer, torch.randn(4, 3, 8, 8))
    )
