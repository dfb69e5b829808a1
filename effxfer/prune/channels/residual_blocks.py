"""Find removable residual blocks: those that add to their input and keep its shape.

Leaving out whole blocks shortens a network where thinner layers no longer pay (ShortGPT, Men et al., 2024,
https://arxiv.org/abs/2403.03853; for convolutions, Elkerdawy et al., 2020, https://arxiv.org/abs/2007.10260).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.net.compression.removed_block import is_tapped_within
from effxfer.net.hooks import hooks
from effxfer.prune.network import layer_prefix

# A norm divides by the root of the variance plus a small number: 1e-5 changes a normalized input by 5e-6 of it.
CLOSE = 1e-4


@torch.no_grad()
def residual_blocks(net: nn.Module, example: Tensor, fixed: Sequence[nn.Module] = ()) -> list[str]:
    """List the body's innermost blocks that return a positive input unchanged when their weights are zero.

    Of blocks with a norm behind the sum, as in BERT, this holds of a normalized input and a norm of weight one.

    Args:
        net: Network in evaluation mode; its weights are restored afterwards.
        example: One input `(1, 3, S, S)`.
        fixed: Modules that must stay; a block that holds one of them is left out of the list.
    """
    fixed_ids = {id(module) for module in fixed}
    inputs_of = _inputs(net, example)
    candidates = [name for name, inputs in inputs_of.items() if _adds_input(net.get_submodule(name), inputs)]
    return [
        name
        for name in candidates
        if not any(inner.startswith(f"{name}.") for inner in candidates)
        and not is_tapped_within(net, name)
        and not any(id(module) in fixed_ids for module in net.get_submodule(name).modules())
    ]


def _inputs(net: nn.Module, example: Tensor) -> dict[str, tuple[Tensor, ...]]:
    """Map modules that contain layers, keep the shape of their first input and are called once, to their inputs."""
    inputs_of: dict[str, tuple[Tensor, ...] | None] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            plain = bool(inputs) and not keywords and all(isinstance(value, Tensor) for value in (*inputs, output))
            fits = plain and name not in inputs_of and inputs[0].shape == output.shape
            inputs_of[name] = inputs if fits else None

        return hook

    prefix = layer_prefix(net)
    composed = {n: m for n, m in net.named_modules() if n and n.startswith(prefix) and _contains_weights(m)}
    with hooks(m.register_forward_hook(note(n), with_kwargs=True) for n, m in composed.items()):
        net(example)
    return {name: inputs for name, inputs in inputs_of.items() if inputs is not None}


def _contains_weights(module: nn.Module) -> bool:
    layers = [m for m in module.modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear)]
    return bool(layers) and layers[0] is not module


def _adds_input(block: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Whether a block with zero weights returns a positive input unchanged, or its norm a normalized one."""
    state = {name: tensor.clone() for name, tensor in block.state_dict().items()}
    # Positive, so that a ReLU behind the sum lets it through.
    positive = torch.rand(inputs[0].shape, generator=torch.Generator().manual_seed(0)).to(inputs[0].device)
    norms = [module for module in block.modules() if isinstance(module, nn.LayerNorm)]
    try:
        for parameter in block.parameters():
            parameter.zero_()
        for norm in block.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None:
                # A norm without weights would add minus its mean.
                norm.running_mean.zero_()
        unchanged = _returns(block, positive, inputs[1:])
        if unchanged or not norms:
            return unchanged
        for norm in norms:
            norm.weight.fill_(1.0)
        normalized = nn.functional.layer_norm(positive, norms[-1].normalized_shape, eps=0.0)
        return _returns(block, normalized, inputs[1:], CLOSE)
    except Exception:  # a block that cannot run by itself is not one that can be left out
        return False
    finally:
        block.load_state_dict(state)


def _returns(block: nn.Module, x: Tensor, extra: tuple[Tensor, ...], tolerance: float = 1e-8) -> bool:
    # Cloned: blocks with in-place activations would change the input that is compared.
    return torch.allclose(block(x.clone(), *extra), x, atol=tolerance)
