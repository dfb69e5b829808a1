"""What a body gives, if that is not simply a tensor: tuples, lists, dictionaries, dataclasses, several feature maps."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

# Of a named output, the first of these that is there; of any other, the first tensor.
ORDER = ("logits", "out", "features", "pooler_output", "last_hidden_state")


def tensor_of(output: Any) -> Tensor:
    """Choose the tensor that a head sees of what a module gives.

    Of maps of falling resolution, as `features_only` gives them, it is the last; of an output with names, the first of
    `ORDER`; else the first tensor, such as the main output before auxiliary ones.

    Raises:
        TypeError: If there is no tensor in it.
    """
    if isinstance(output, Tensor):
        return output
    values = _values(output)
    tensors = [value for value in values if isinstance(value, Tensor)]
    if _is_pyramid(tensors) and len(tensors) == len(values):
        return tensors[-1]
    for value in values:
        if value is not None:
            return tensor_of(value)
    raise TypeError(f"it gives {type(output).__name__}, not a tensor")


def _values(output: Any) -> list[Any]:
    """List what an output consists of, the names of `ORDER` first."""
    if is_dataclass(output) and not isinstance(output, Mapping | type):
        output = {field.name: getattr(output, field.name) for field in fields(output)}
    if isinstance(output, tuple) and hasattr(output, "_asdict"):
        output = output._asdict()
    if isinstance(output, Mapping):
        first = [output[name] for name in ORDER if name in output]
        return first or list(output.values())
    return list(output) if isinstance(output, Iterable) and not isinstance(output, str | bytes) else []


def _is_pyramid(tensors: list[Tensor]) -> bool:
    """Whether tensors are maps, each of a resolution that is not above the one before, and the last of a lower one."""
    sides = [tensor.shape[-1] for tensor in tensors if tensor.dim() == 4]
    falling = all(after <= before for before, after in pairwise(sides))
    return 1 < len(sides) == len(tensors) and falling and sides[-1] < sides[0]
