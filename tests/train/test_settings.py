"""The learning rate over training, and which parameters get which rate."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from effxfer.train.optim.param_groups import parameter_groups
from effxfer.train.settings import FitSettings, default_lr, rate
from effxfer.transfer import STRATEGIES


@given(st.floats(0, 0.999), st.sampled_from(["cosine", "linear", "step", "constant"]), st.floats(0, 5))
def test_the_rate_is_between_nothing_and_its_peak(progress, schedule, warmup):
    assert 0 <= rate(progress, FitSettings(schedule=schedule, warmup=warmup)) <= 1


def test_cosine_by_hand():
    settings = FitSettings(epochs=10, warmup=1.0)
    assert rate(0.05, settings) == pytest.approx(0.5)
    assert rate(0.1, settings) == pytest.approx(1.0)
    assert rate(0.55, settings) == pytest.approx(0.5)


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 4))
        self.head = nn.Linear(4, 2)


def test_groups_by_hand():
    net = Toy()
    groups = parameter_groups(net, lr=0.1, weight_decay=0.5, layer_decay=0.5, head_lr=4.0)
    found = {id(p): group for group in groups for p in group["params"]}
    assert len(found) == len(list(net.parameters()))
    first, last = found[id(net.body[0].weight)], found[id(net.body[2].weight)]
    assert (first["lr_scale"], last["lr_scale"], found[id(net.head.weight)]["lr_scale"]) == (0.25, 1.0, 4.0)
    assert first["weight_decay"] == 0.5
    assert found[id(net.body[0].bias)]["weight_decay"] == found[id(net.body[1].weight)]["weight_decay"] == 0.0


def test_what_is_frozen_is_in_no_group():
    net = Toy()
    net.body.requires_grad_(False)
    groups = parameter_groups(net, lr=0.1, weight_decay=0.0)
    assert sum(len(group["params"]) for group in groups) == 2


def test_settings_refuse_nonsense():
    with pytest.raises(ValueError, match="greater than 0"):
        FitSettings(lr=0.0)
    assert torch.tensor(FitSettings().peak_lr) > 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_images_keep_one_rate_and_texts_get_that_of_what_is_trained(strategy):
    assert default_lr("image", strategy) == FitSettings().peak_lr == 1e-3
    trains_encoder = not STRATEGIES[strategy].adds and strategy != "probe"
    assert (default_lr("text", strategy) < 1e-3) == trains_encoder


def test_a_rate_that_is_given_stays():
    assert FitSettings(lr=0.5).with_default_lr("text", "full").lr == 0.5
    assert FitSettings().with_default_lr("text", "full").lr == default_lr("text", "full")
