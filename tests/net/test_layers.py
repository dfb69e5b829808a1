import torch
from torch import nn

from effxfer.net.layers import trace


def test_a_site_is_what_a_layer_does_but_its_widths():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 16, 3, groups=8), nn.Flatten(2))
    net.append(nn.Linear(9, 5))
    net.train()
    first, depth, linear = trace(net, torch.zeros(1, 3, 10, 10))
    assert (first.name, first.inputs, first.outputs) == ("0", 3, 8)
    assert (first.site.kind, first.site.size, first.site.out, first.site.stride) == ("conv", (10, 10), (5, 5), (2, 2))
    assert (depth.site.kind, depth.site.groups, depth.site.out) == ("depthwise", 2, (3, 3))
    assert (linear.site.kind, linear.site.size, linear.inputs, linear.outputs) == ("linear", (16, 1), 9, 5)
    assert net.training


def test_layers_of_one_shape_share_a_site():
    net = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 1))
    first, second = trace(net, torch.zeros(1, 4, 6, 6))
    assert first.site == second.site
    assert str(first.site) == "conv g1 1x1 1x1 1x1 6x6 6x6"
