"""Where torch-pruning understands a network as well, both must tie the same channels to one another.

torch-pruning (Fang et al., 2023, https://arxiv.org/abs/2301.12900) reads a graph of autograd functions, effxfer follows
the numbers of channels through a forward pass: two ways to one answer.
"""

import warnings

import pytest
import torch
import torch_pruning as tp
from torch import nn

from effxfer.prune.graph.groups import channels_of, units_in
from effxfer.prune.graph.transaction import copy_for_tracing
from effxfer.prune.network import example_of
from tests.prune.nets import make

KNOWN = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
NETWORKS = {
    "residual": ("effxfer.net.cifar:resnet20", 32, {"width": 8}),
    "bottleneck": ("timm:resnet26", 32, {}),
    "depthwise": ("timm:mobilenetv2_035", 32, {}),
    "concatenation": ("timm:densenet121", 32, {"growth_rate": 8, "block_config": (2, 2, 2, 2)}),
    "squeeze-excite": ("timm:mobilenetv3_small_050", 32, {}),
    "reparametrised": ("timm:repvgg_a0", 32, {}),
}


def tied_by_torch_pruning(net, graph, layer, channel):
    """By layer, which outputs and which inputs leave with one output of a layer."""
    names = {module: name for name, module in net.named_modules()}
    group = graph.get_pruning_group(net.get_submodule(layer), tp.prune_conv_out_channels, idxs=[channel])
    makes, reads = {}, {}
    for dependency, channels in group:
        module = dependency.target.module
        if isinstance(module, KNOWN):
            side = makes if graph.is_out_channel_pruning_fn(dependency.handler) else reads
            side.setdefault(names[module], set()).update(channels)
    return makes, reads


def tied(one, unit, net):
    alone = torch.arange(one.count) == unit
    sides = ({name: set(channels_of(p, alone).tolist()) for name, p in side.items()} for side in (one.makes, one.reads))
    return tuple({name: c for name, c in side.items() if isinstance(net.get_submodule(name), KNOWN)} for side in sides)


@pytest.mark.parametrize("kind", NETWORKS)
def test_both_tie_the_same_channels(kind):
    source, size, args = NETWORKS[kind]
    net = copy_for_tracing(make(source, size, args=args))
    example = example_of(net)
    units = [one for one in units_in(net, example).units if not one.heads]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = tp.DependencyGraph().build_dependency(net, example)
        compared = 0
        for one in units:
            for unit in {0, one.count // 2, one.count - 1}:
                places, numbers = one.makes[one.layer]
                channel = int(places[numbers == unit][0])
                assert tied(one, unit, net) == tied_by_torch_pruning(net, graph, one.layer, channel), (one.layer, unit)
                compared += 1
    assert compared > len(units)
