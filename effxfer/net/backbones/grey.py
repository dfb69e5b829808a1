"""The edit `grey`: images of three channels for a body that was made for one."""

import torch
from torch import nn

from effxfer.net.net import Net


def grey(net: Net) -> None:
    """Feed the body the mean of the three channels."""
    net.body.register_forward_pre_hook(_average_channels)


def _average_channels(_body: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (inputs[0].mean(1, keepdim=True), *inputs[1:])
