"""Find removable residual blocks: those that add to their input and keep its shape.

Leaving out whole blocks shortens a network where thinner layers no longer pay (ShortGPT, Men et al., 2024,
https://arxiv.org/abs/2403.03853; for convolutions, Elkerdawy et al., 2020, https://arxiv.org/abs/2007.10260).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.net.edits import is_tapped_within
from effxfer.net.hooks import hooks
from effxfer.prune.network import layer_prefix


@torch.no_grad()
def residual_blocks(net: nn.Module, example: Tensor, fixed: Sequence[nn.Module] = ()) -> list[str]:
    """List the body's innermost blocks that return a positive input unchanged when their weights are zero.

    Args:
        net: In evaluation mode; its weights are back in place afterwards.
        example: One input `(1, 3, S, S)`.
        fixed: Modules that must stay; a block that holds one of them is left out of the list.
    """
    shapes = _shapes(net, example)
    fixed_ids = {id(module) for module in fixed}
    candidates = [name for name, shape in shapes.items() if _adds_input(net.get_submodule(name), shape, example)]
    return [
        name
        for name in candidates
        if not any(inner.startswith(f"{name}.") for inner in candidates)
        and not is_tapped_within(net, name)
        and not any(id(module) in fixed_ids for module in net.get_submodule(name).modules())
    ]


def _shapes(net: nn.Module, example: Tensor) -> dict[str, torch.Size]:
    """Map modules that contain layers, keep the shape of their single input and are called once, to that shape."""
    shapes: dict[str, torch.Size | None] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            single = len(inputs) == 1 and not keywords and isinstance(inputs[0], Tensor) and isinstance(output, Tensor)
            fits = single and name not in shapes and inputs[0].shape == output.shape
            shapes[name] = output.shape if fits else None

        return hook

    prefix = layer_prefix(net)
    composed = {n: m for n, m in net.named_modules() if n and n.startswith(prefix) and _contains_weights(m)}
    with hooks(m.register_forward_hook(note(n), with_kwargs=True) for n, m in composed.items()):
        net(example)
    return {name: shape for name, shape in shapes.items() if shape is not None}


def _contains_weights(module: nn.Module) -> bool:
    layers = [m for m in module.modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear)]
    return bool(layers) and layers[0] is not module


def _adds_input(block: nn.Module, shape: torch.Size, example: Tensor) -> bool:
    """Whether a block with zero weights returns a positive input unchanged."""
    state = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    # Positive, so that a ReLU behind the sum lets it through.
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(example.device)
    try:
        for parameter in block.parameters():
            parameter.zero_()
        for norm in block.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None:
                # A norm without weights would add minus its mean.
                norm.running_mean.zero_()
        # Cloned: blocks with in-place activations would change the input that is compared.
        return bool(torch.allclose(block(x.clone()), x))
    except Exception:  # a block that cannot run by itself is not one that can be left out
        return False
    finally:
        block.load_state_dict(state)
