"""What a network keeps of earlier tasks, so that it can learn another one later; it lies beside the weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Memory:
    """Tasks that were learned one after another, and what their strategy kept of them.

    Attributes:
        tasks: In the order of time: `name`, `digest`, `classes` (those with examples) and `reached`, the accuracy on
            this task and on earlier ones when it had been learned.
        tensors: Examples, importances and other values of the strategy, by name, on the CPU.
        facts: Strategy, scenario, and other plain values.
    """

    tasks: tuple[Mapping[str, Any], ...]
    tensors: "Mapping[str, Tensor]" = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __deepcopy__(self, _copied: object) -> "Memory":
        """Return the memory itself, which nothing changes: copies of a network share it."""
        return self

    def section(self, prefix: str) -> "dict[str, Tensor]":
        """Return the tensors below a prefix such as `importance/`, without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}
