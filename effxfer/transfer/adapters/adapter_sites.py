"""Find the modules where adapters can be inserted, by a forward pass with one image.

In transformers these are the attention and MLP of each block; in convolutional networks, the blocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import SettingsError
from effxfer.net.hooks import as_evaluated, hooks
from effxfer.net.merge import MODULES
from effxfer.net.net import Net
from effxfer.net.taps import example_input
from effxfer.transfer.adapters.attach import match_names

ATTENTION, MLP = ("attn", "self_attention", "attention"), ("mlp", "ffn")
WEIGHING = (nn.Conv2d, nn.Linear)


@dataclass(frozen=True, kw_only=True)
class TensorShapes:
    """Input and output shapes of a module.

    Attributes:
        inputs: Shape of its input.
        outputs: Shape of its output.
        maps: Whether channels are the second axis; otherwise they are the last.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    maps: bool

    def site(self) -> dict[str, Any] | None:
        """Return the arguments of `parallel_adapter` for this module; None if it does not fit here."""
        if not 2 <= len(self.inputs) == len(self.outputs) <= 4:
            return None
        axis = 1 if self.maps else -1
        # Rounded, because padding makes odd sides a pixel off; the sides are checked below.
        stride = round(self.inputs[-1] / self.outputs[-1]) if self.maps else 1
        sides = [(-(-a // stride), b) for a, b in zip(self.inputs, self.outputs, strict=True)]
        positions = sides[2:] if self.maps else sides[:-1]
        if any(a != b for a, b in positions):
            return None
        return {"inputs": self.inputs[axis], "outputs": self.outputs[axis], "maps": self.maps, "stride": stride}


def blocks_of(net: Net) -> dict[str, nn.Module]:
    """Return the body's innermost repeated blocks: modules of several layers within a sequence."""
    candidates = dict[str, nn.Module]()
    for name, holder in net.body.named_modules():
        if _repeats(holder):
            path = f"body.{name}." if name else "body."
            candidates |= {path + key: module for key, module in holder.named_children() if _is_block(module)}
    # The innermost: of a stage of blocks, an adapter belongs at each block.
    return {n: m for n, m in candidates.items() if not any(other.startswith(f"{n}.") for other in candidates)}


def sites_of(net: Net, patterns: Sequence[str] = (), *, attention: bool = True) -> dict[str, dict[str, Any]]:
    """Return the sites of bottlenecks: attention and MLP of each block, or the block itself if it has neither.

    Args:
        net: Network; its existing adapters are no sites.
        patterns: Shell patterns of modules to use instead.
        attention: Whether to include the attention of the blocks.

    Raises:
        SettingsError: If there is no site, or a pattern matches no module that maps one tensor to another.
    """
    names = _match_modules(net, patterns) if patterns else parts_of(net, attention=attention)
    sites = {name: module_shapes.site() for name, module_shapes in record_shapes(net, names).items()}
    wrong = [name for name in names if not sites.get(name)]
    if patterns and wrong:
        raise SettingsError(f"no adapter can be put at {wrong[0]}: it must map one tensor to another", "name others")
    usable = {name: site for name, site in sites.items() if site}
    if not usable:
        hint = "name modules in options.sites, such as 'features.*', or take lora or ssf"
        raise SettingsError("no place for adapters was found: the network has no blocks in a sequence", hint)
    return usable


def parts_of(net: Net, *, attention: bool = True) -> list[str]:
    """Name the attention (optional) and MLP of each block, or the block itself if it has neither."""
    names = list[str]()
    for name, block in blocks_of(net).items():
        inner = [key for key, child in block.named_children() if key in (*ATTENTION, *MLP) and _has_weights(child)]
        names += [f"{name}.{key}" for key in inner if attention or key not in ATTENTION] or [name]
    return names


@torch.no_grad()
def record_shapes(net: Net, names: list[str]) -> dict[str, TensorShapes]:
    """Record the shapes of modules that map one tensor to another, in the order of execution."""
    shapes, last = dict[str, TensorShapes](), list[bool]()

    def recorder(name: str) -> Any:
        def record(_module: nn.Module, inputs: Any, output: Any) -> None:
            if len(inputs) and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                # Four dimensions are ambiguous: Swin and ConvNeXt keep channels last. The last layer that weighs tells.
                maps = output.dim() == 4 and last[-1:] == [True]
                shapes[name] = TensorShapes(inputs=tuple(inputs[0].shape), outputs=tuple(output.shape), maps=maps)

        return record

    def weigh(module: nn.Module, _inputs: Any, _output: Any) -> None:
        last.append(isinstance(module, nn.Conv2d))

    layers = [m for n, m in net.body.named_modules() if isinstance(m, WEIGHING) and not _belongs_to_adapter(n, net)]
    handles = [module.register_forward_hook(weigh) for module in layers]
    handles += [net.get_submodule(name).register_forward_hook(recorder(name)) for name in names]
    with as_evaluated(net), hooks(handles):
        net.body(example_input(net)[:1])
    return shapes


def _repeats(holder: nn.Module) -> bool:
    """Whether a module is a sequence of several modules of one type."""
    kinds = [type(child) for child in holder.children()]
    return isinstance(holder, nn.Sequential | nn.ModuleList) or (len(kinds) > 1 and len(set(kinds)) == 1)


def _is_block(module: nn.Module) -> bool:
    container = isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)
    return not container and any(isinstance(m, WEIGHING) for m in module.modules() if m is not module)


def _match_modules(net: Net, patterns: Sequence[str]) -> list[str]:
    modules = {f"body.{n}": m for n, m in net.body.named_modules() if n and not _belongs_to_adapter(n, net)}
    plain = [n for n, m in modules.items() if not isinstance(m, nn.Sequential | nn.ModuleList)]
    return match_names(plain, patterns, "module")


def _has_weights(module: nn.Module) -> bool:
    return any(isinstance(m, WEIGHING) for m in module.modules())


def _belongs_to_adapter(name: str, net: Net) -> bool:
    parts = name.split(".")
    return any(isinstance(net.body.get_submodule(".".join(parts[:i])), MODULES) for i in range(1, len(parts)))
