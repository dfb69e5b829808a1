"""Arguments of `Encoder` for ModernBERT (Warner et al., 2024, https://arxiv.org/abs/2412.13663), and its tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from effxfer.errors import ModelFileError

HINT = "take a plain ModernBERT, as `save_pretrained` of transformers writes it"
GLOBAL_BASE, LOCAL_BASE, EVERY, WINDOW = 160_000.0, 10_000.0, 3, 128  # where the file says nothing
FULL, SLIDING = "full_attention", "sliding_attention"
LARGEST_BASE = 1e9
# The first layer and the gate of an MLP are stored as one tensor.
FIRST, GATE = "mlp.fc1.weight", "mlp.gate.weight"
# Of the head for masked tokens, whose layers have no biases.
MASKED_BIASES = {"masked.dense.bias": "masked.dense.weight", "masked.norm.bias": "masked.norm.weight"}


def modern_arguments(config: Mapping[str, Any], layers: int, file: Path) -> dict[str, Any]:
    """Return the arguments of `Encoder` that BERT's configuration has not.

    Raises:
        ModelFileError: `E433`, if biases, positions or the order of layers are not those that are built.
    """
    biased = [key for key in ("attention_bias", "mlp_bias", "norm_bias") if config.get(key)]
    if biased:
        raise ModelFileError(f"{file}: {biased[0]} is set, and layers with biases are not built", HINT, code="E433")
    return {
        "rotary": _base(config, FULL, GLOBAL_BASE, file), "local_rotary": _base(config, SLIDING, LOCAL_BASE, file),
        "window": _positive(config, "local_attention", WINDOW, file) // 2, "global_every": _every(config, layers, file),
        "gated": True, "biased": False, "pre_norm": True, "first_norm": False,
    }  # fmt: skip


def _base(config: Mapping[str, Any], kind: str, default: float, file: Path) -> float:
    parameters = (config.get("rope_parameters") or {}).get(kind) or {}
    name = "global_rope_theta" if kind == FULL else "local_rope_theta"
    value = parameters.get("rope_theta") or config.get(name) or default
    form = parameters.get("rope_type", "default")
    number = isinstance(value, int | float) and not isinstance(value, bool) and 1 < value <= LARGEST_BASE
    if form != "default" or config.get("rope_scaling") or not number:
        text = f"{file}: rotary positions of type {form!r:.40} with the base {value!r:.40} are not built"
        raise ModelFileError(text, HINT, code="E433")
    return float(value)


def _every(config: Mapping[str, Any], layers: int, file: Path) -> int:
    """Return how often a layer attends to all tokens."""
    kinds = config.get("layer_types")
    every = _positive(config, "global_attn_every_n_layers", EVERY, file)
    if kinds is None:
        return every
    places = [place for place, kind in enumerate(kinds) if kind == FULL] if isinstance(kinds, list) else []
    every = places[1] if len(places) > 1 else layers
    if kinds != [SLIDING if place % every else FULL for place in range(layers)]:
        raise ModelFileError(f"{file}: layers that attend to all tokens do not alternate evenly", HINT, code="E433")
    return every


def _positive(config: Mapping[str, Any], key: str, default: int, file: Path) -> int:
    value = config.get(key, default)
    if type(value) is not int or not 1 <= value < 2**16:
        raise ModelFileError(f"{file}: {key} is {value!r:.40}", HINT, code="E433")
    return value


def stored_shapes_of(shapes: Mapping[str, torch.Size]) -> dict[str, torch.Size]:
    """Return the shapes of an encoder's tensors as ModernBERT's files have them: a gate is part of the first layer."""
    joined = {name: shape for name, shape in shapes.items() if not name.endswith(GATE)}
    return {n: torch.Size((2 * s[0], *s[1:])) if n.endswith(FIRST) else s for n, s in joined.items()}


def split_gates(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split the first layers of MLPs into what goes through the activation, and the gate."""
    parts = dict[str, Tensor]()
    for name, tensor in state.items():
        if name.endswith(FIRST):
            first, gate = tensor.chunk(2)
            parts |= {name: first, name.replace(FIRST, GATE): gate}
        else:
            parts[name] = tensor
    return parts


def with_masked_biases(heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add biases of zeros to a head for masked tokens that has none."""
    added = {name: torch.zeros(len(heads[like])) for name, like in MASKED_BIASES.items() if like in heads}
    return {**added, **heads}
