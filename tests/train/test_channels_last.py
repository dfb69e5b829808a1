"""Strided 1x1 convolutions of few channels, which oneDNN gets wrong with channels last."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from effxfer.net.cifar import resnet20
from effxfer.train.channels_last import at_risk, channels_last, safe_gradients

TRAIN = """
import torch
from torch import nn
from effxfer.net.cifar import resnet20
from effxfer.train.channels_last import channels_last
torch.set_num_threads(1)
net = resnet20(WIDTH)
with channels_last(net):
    for _ in range(12):
        x = torch.randn(48, 3, 16, 16).contiguous(memory_format=torch.channels_last)
        net(x).square().sum().backward()
"""


def test_finds_the_strided_convolutions_of_few_channels():
    assert len(at_risk(resnet20(4))) == 2
    assert len(at_risk(resnet20(12))) == 1
    assert at_risk(resnet20(16)) == []
    assert at_risk(nn.Conv2d(4, 8, 1)) == at_risk(nn.Conv2d(4, 8, 3, 2)) == []
    assert len(at_risk(nn.Conv2d(32, 32, 1, 2, groups=8))) == 1


@pytest.mark.parametrize("width", [1, 4])
def test_training_a_narrow_network_does_not_damage_the_heap(width):
    """In a process of its own: without the guard this one dies of `double free or corruption` or hangs."""
    script = TRAIN.replace("WIDTH", str(width))
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_gradients_are_those_of_channels_first():
    torch.manual_seed(0)
    net, x = resnet20(4), torch.randn(16, 3, 16, 16)
    net(x).square().sum().backward()
    expected = {name: p.grad.clone() for name, p in net.named_parameters()}
    net.zero_grad()
    with channels_last(net):
        assert net.stage2[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
        net(x.contiguous(memory_format=torch.channels_last)).square().sum().backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-3)


def test_weights_lie_afterwards_as_those_of_a_fresh_network():
    net, fresh = resnet20(4), resnet20(4)
    with channels_last(net):
        pass
    assert [p.stride() for p in net.parameters()] == [p.stride() for p in fresh.parameters()]


def test_the_guard_leaves_nothing_behind():
    net = resnet20(4)
    conv = net.stage2[0].shortcut[0]
    weight = conv.weight
    with safe_gradients(net):
        assert (len(conv._forward_pre_hooks), conv.stride) == (1, (1, 1))
    assert conv.stride == (2, 2)
    assert not any(module._forward_pre_hooks for module in net.modules())
    assert net.stage2[0].shortcut[0].weight is weight, "an optimizer that holds the parameter still does"
