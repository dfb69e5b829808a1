"""Pick the feature tensor from a body's output: a tuple, list, dictionary, dataclass, or several feature maps."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor

# Preference among the fields of a named output; for other outputs the first tensor is used.
ORDER = ("logits", "out", "features", "pooler_output", "last_hidden_state")


def tensor_of(output: Any) -> Tensor:
    """Choose the tensor of a module's output that a head receives.

    Of feature maps with falling resolution (timm's `features_only`) it is the last; of an output with names, the first
    of `ORDER`; otherwise the first tensor, such as the main output before auxiliary ones.

    Raises:
        TypeError: If it contains no tensor.
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
    raise TypeError(f"it returns {type(output).__name__}, not a tensor")


def _values(output: Any) -> list[Any]:
    """List the values of an output; of a named one only the fields in `ORDER`, if it has any."""
    if is_dataclass(output) and not isinstance(output, Mapping | type):
        output = {field.name: getattr(output, field.name) for field in fields(output)}
    if isinstance(output, tuple) and hasattr(output, "_asdict"):
        output = output._asdict()
    if isinstance(output, Mapping):
        first = [output[name] for name in ORDER if name in output]
        return first or list(output.values())
    return list(output) if isinstance(output, Iterable) and not isinstance(output, str | bytes) else []


def _is_pyramid(tensors: list[Tensor]) -> bool:
    """Whether the tensors are feature maps whose resolution never rises and falls at least once."""
    sides = [tensor.shape[-1] for tensor in tensors if tensor.dim() == 4]
    falling = all(after <= before for before, after in pairwise(sides))
    return 1 < len(sides) == len(tensors) and falling and sides[-1] < sides[0]
