"""Bottleneck adapters behind or in parallel to parts of the body.

Behind: Houlsby et al., 2019, https://arxiv.org/abs/1902.00751. Beside: He et al., 2021,
https://arxiv.org/abs/2110.04366, and for vision transformers AdaptFormer (Chen et al., 2022,
https://arxiv.org/abs/2205.13535). With 1x1 convolutions, as in residual adapters (Rebuffi et al., 2018,
https://arxiv.org/abs/1803.10082).
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from effxfer.net.net import Net

HOULSBY, PARALLEL = "houlsby", "parallel_adapter"


class Bottleneck(nn.Module):
    """Down to a few channels, ReLU, and up again; at first it gives zeros.

    Args:
        inputs: Channels that it reads.
        outputs: Channels that it gives.
        rank: Channels in between, at least 1.
        maps: Takes maps `(B, inputs, h, w)`; otherwise tokens or vectors `(..., inputs)`.
        stride: Of maps.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, *, maps: bool, stride: int = 1) -> None:
        super().__init__()
        down = nn.Conv2d(inputs, rank, 1, stride) if maps else nn.Linear(inputs, rank)
        up = nn.Conv2d(rank, outputs, 1) if maps else nn.Linear(rank, outputs)
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)  # type: ignore[arg-type]
        self.down, self.act, self.up = down, nn.ReLU(), up

    def forward(self, x: Tensor) -> Tensor:
        """Give what is to be added."""
        result: Tensor = self.up(self.act(self.down(x)))
        return result


def houlsby(net: Net, *, sites: Mapping[str, Mapping[str, Any]], rank: int) -> None:
    """Put a bottleneck with a shortcut behind modules.

    Args:
        net: Changed in place.
        sites: By the module's name: `outputs`, `maps`, and what `parallel_adapter` needs beside that.
        rank: As in `Bottleneck`.
    """
    for name, site in sites.items():
        width = site["outputs"]
        _attach(net, name, HOULSBY, Bottleneck(width, width, rank, maps=site["maps"]))
        net.get_submodule(name).register_forward_hook(_add_serial)


def parallel_adapter(net: Net, *, sites: Mapping[str, Mapping[str, Any]], rank: int, scale: float) -> None:
    """Put a bottleneck beside modules: it reads what they read, and its output is added to theirs.

    Args:
        net: Changed in place.
        sites: By the module's name: `inputs`, `outputs`, `maps`, `stride`.
        rank: As in `Bottleneck`.
        scale: What its output is multiplied by; 0 leaves the network as it is.
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
    """A forward hook that a copied network can keep, because it holds no module."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        change: Tensor = module.get_submodule(PARALLEL)(inputs[0])
        return output + self.scale * change
