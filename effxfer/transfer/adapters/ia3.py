"""(IA)^3: scale keys, values and inner activations (Liu et al., 2022, https://arxiv.org/abs/2205.05638)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import nn

from effxfer.data.task import Task
from effxfer.net.net import Net
from effxfer.runtime.outputs.registry import ALL_KINDS
from effxfer.transfer.adapters.attach import attach_adapter, detach_adapter, layers_of
from effxfer.transfer.base import Strategy

# Names of separate projections in timm, torchvision and transformers.
SINGLE = ("k", "v", "kv", "k_proj", "v_proj", "to_key", "to_value", "key", "value")
ATTENTION = ("attn", "attention", "self_attention", "attn_block", "token_mixer")
MLP = ("mlp", "ffn")


class Ia3(Strategy):
    """Train a factor for each channel of keys, values and inner activations, and the head; the body stays frozen.

    In convolutional networks, the inner activations are the inputs of every convolution that mixes channels, except the
    first one, which reads the image.

    Attributes:
        merge: Whether to merge the factors into the weights after training; otherwise `export` merges them.
    """

    takes: ClassVar[frozenset[str]] = frozenset(ALL_KINDS)
    adds: ClassVar[Literal["", "weights", "layers"]] = "weights"

    merge: bool = True

    def prepare(self, net: Net, tasks: Sequence[Task]) -> nn.Module:
        """Freeze the body and add the factors."""
        outputs, inputs = keys_and_values(net), inner_activations(net)
        return attach_adapter(net, {"kind": "ia3", "outputs": outputs, "inputs": inputs} if outputs or inputs else None)

    def finish(self, learner: Net, tasks: Sequence[Task]) -> Net:
        """Unfreeze the body; merge the factors if `merge` is set."""
        return detach_adapter(learner, merge=self.merge)


def keys_and_values(net: Net) -> dict[str, int]:
    """Map each weight that computes keys or values to its first row that does so."""
    rows = dict[str, int]()
    for name, layer in layers_of(net, nn.Linear, nn.Conv2d, nn.MultiheadAttention).items():
        leaf = name.rpartition(".")[2]
        weight = f"{name}.in_proj_weight" if isinstance(layer, nn.MultiheadAttention) else f"{name}.weight"
        if leaf in ("qkv", "qkv_proj") or (
            isinstance(layer, nn.MultiheadAttention) and hasattr(layer, "in_proj_weight")
        ):
            # A fused weight has queries first, which stay, then keys and values.
            rows[weight] = net.raw_weight(weight).shape[0] // 3
        elif leaf in SINGLE:
            rows[weight] = 0
    return rows


def inner_activations(net: Net) -> list[str]:
    """Name the weights that read inner activations: the last layer of each MLP, and convolutions outside of MLPs."""
    layers = layers_of(net, nn.Linear, nn.Conv2d)
    last = dict[str, str]()
    for name in layers:
        parts = name.split(".")
        place = next((i for i, part in enumerate(parts[:-1]) if part.startswith(MLP)), None)
        if place is not None:
            last[".".join(parts[: place + 1])] = name
    # Without the first, whose inputs are pixels.
    convs = [name for name, layer in layers.items() if isinstance(layer, nn.Conv2d)][1:]
    free = [n for n in convs if not any(part.startswith((*ATTENTION, *MLP)) for part in n.split("."))]
    chosen = {*last.values(), *free}
    return [f"{n}.weight" for n, layer in layers.items() if n in chosen and getattr(layer, "groups", 1) == 1]
