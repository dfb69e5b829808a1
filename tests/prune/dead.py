"""Masks that kill whole channels, heads or hidden units, as a test asks for."""

import torch

from effxfer.prune.graph.groups import channels_of, units_in
from effxfer.prune.graph.transaction import copy_for_tracing
from effxfer.prune.network import example_of
from effxfer.prune.weights.mask import Mask


@torch.no_grad()
def outspoken(net):
    """Give biases values that matter, because those of fresh networks are zero."""
    for parameter in net.parameters():
        if parameter.dim() == 1:
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return net


def dead_mask(net, seed=0, share=0.4, quiet=False, only=None):
    """Mask the weights that make random units: with `quiet`, their biases and norms as well, so that they say 0.

    Of tied layers all lose the same units, and at least one of each kind stays.
    """
    rng = torch.Generator().manual_seed(seed)
    parameters = dict(net.named_parameters())
    keep = {}
    for one in units_in(copy_for_tracing(net), example_of(net)).units:
        if one.mixed or not one.reads or (only and one.layer not in only):
            continue
        dead = torch.rand(one.count, generator=rng) < share
        dead[int(torch.randint(one.count, (), generator=rng))] = False
        for name, places in one.makes.items():
            for leaf in ("weight", "bias"):
                parameter = parameters.get(f"{name}.{leaf}")
                if parameter is None or (not quiet and (leaf == "bias" or parameter.dim() == 1)):
                    continue
                mask = keep.setdefault(f"{name}.{leaf}", torch.ones_like(parameter, dtype=torch.bool))
                mask[channels_of(places, dead)] = False
    return Mask(keep)
