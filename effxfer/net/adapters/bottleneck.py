"""Bottleneck adapters in series with, or in parallel to, modules of the body.

In series: Houlsby et al., 2019, https://arxiv.org/abs/1902.00751. In parallel: He et al., 2021,
https://arxiv.org/abs/2110.04366; AdaptFormer for vision transformers (Chen et al., 2022,
https://arxiv.org/abs/2205.13535). For convolutional networks with 1x1 convolutions, like residual adapters (Rebuffi et
al., 2018, https://arxiv.org/abs/1803.10082).
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from effxfer.net.net import Net

HOULSBY, PARALLEL = "houlsby", "parallel_adapter"


class Bottleneck(nn.Module):
    """Projection to a few channels, ReLU, and projection back; its initial output is zero.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        rank: Channels of the bottleneck, at least 1.
        maps: Whether the input is maps `(B, inputs, h, w)`; otherwise it is tokens or vectors `(..., inputs)`.
        stride: Stride on maps.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, *, maps: bool, stride: int = 1) -> None:
        super().__init__()
        down = nn.Conv2d(inputs, rank, 1, stride) if maps else nn.Linear(inputs, rank)
        up = nn.Conv2d(rank, outputs, 1) if maps else nn.Linear(rank, outputs)
        # Training starts from the body's own answers (Houlsby: near-identity).
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)  # type: ignore[arg-type]
        self.down, self.act, self.up = down, nn.ReLU(), up

    def forward(self, x: Tensor) -> Tensor:
        """Return the tensor to add, `(B, outputs, h, w)` or `(..., outputs)`."""
        result: Tensor = self.up(self.act(self.down(x)))
        return result


def houlsby(net: Net, *, sites: Mapping[str, Mapping[str, Any]], rank: int) -> None:
    """Insert a bottleneck with a skip connection after each named module.

    Args:
        net: Network, changed in place.
        sites: By the module's name, a table with `outputs` and `maps`; other keys are ignored.
        rank: Channels of a bottleneck, at least 1.
    """
    for name, site in sites.items():
        width = site["outputs"]
        _attach(net, name, HOULSBY, Bottleneck(width, width, rank, maps=site["maps"]))
        net.get_submodule(name).register_forward_hook(_add_serial)


def parallel_adapter(net: Net, *, sites: Mapping[str, Mapping[str, Any]], rank: int, scale: float) -> None:
    """Add a bottleneck in parallel to each named module: it reads the module's input and adds to its output.

    Args:
        net: Network, changed in place.
        sites: By the module's name, a table with `inputs`, `outputs`, `maps` and `stride`.
        rank: Channels of a bottleneck, at least 1.
        scale: Factor on the bottleneck's output; 0 has no effect on the network.
    """
    for name, site in sites.items():
        adapter = Bottleneck(**site, rank=rank)
        _attach(net, name, PARALLEL, adapter)
        net.get_submodule(name).register_forward_hook(_AddParallel(scale))


def _attach(net: Net, name: str, child: str, adapter: nn.Module) -> None:
    module = net.get_submodule(name)
    weight = next(net.parameters())
    module.add_module(child, adapter.to(weight.device))


def _add_serial(module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    change: Tensor = module.get_submodule(HOULSBY)(output)
    return output + change


class _AddParallel:
    """Forward hook that looks its module up by name, so that a copied network uses its own copy."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        change: Tensor = module.get_submodule(PARALLEL)(inputs[0])
        return output + self.scale * change
