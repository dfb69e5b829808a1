"""A head for each task that reads layers of its own, as the head search finds them for several tasks.

Shape legend: B batch, D features of all tasks side by side.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError
from effxfer.net.heads.build import build_head
from effxfer.net.heads.multi_head import MultiHead
from effxfer.net.heads.pools import MapReader, Pool, pool_of
from effxfer.net.heads.spec import TaskHead
from effxfer.net.taps import pool

POOL = "pool."  # before the weights of a task's pool, in the state of its head


class LayerReader(nn.Module):
    """Makes one vector of the layers that a task reads.

    Attributes:
        layers: Their places among the layers of all tasks.
        pool: The pool of the task's head; None if it takes averages side by side.
    """

    def __init__(self, layers: Sequence[int], own_pool: MapReader | None) -> None:
        super().__init__()
        self.layers, self.pool = tuple(layers), own_pool

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """Map what the layers of all tasks give to the features of this one."""
        chosen = [outputs[place] for place in self.layers]
        if self.pool is not None:
            return self.pool(chosen)  # type: ignore[no-any-return]
        pooled = [pool(each) for each in chosen]
        return pooled[0] if len(pooled) == 1 else torch.cat(pooled, 1)


class TaskReaders(MapReader):
    """What each task reads, side by side.

    Attributes:
        tasks: A reader for each task.
    """

    def __init__(self, tasks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.tasks = nn.ModuleList(tasks)

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """Map what the layers give to the features of all tasks, `(B, D)`."""
        return torch.cat([reader(outputs) for reader in self.tasks], 1)


class TaskColumns(nn.Module):
    """Selects the features of one task.

    Attributes:
        width_before: Columns of the tasks before this one; numbers by themselves, as pruning changes them.
        width_until: The same with this one.
    """

    cuts_unequal_parts = True

    def __init__(self, before: int, until: int) -> None:
        super().__init__()
        self.width_before, self.width_until = before, until

    def forward(self, x: Tensor) -> Tensor:
        """Map the features of all tasks `(B, D)` to those of this one."""
        return x[:, self.width_before : self.width_until]


class PerTaskHead(MultiHead):
    """Heads that differ from task to task, and read layers of their own.

    Attributes:
        pool: Maps what the layers of all tasks give to their features side by side, `(B, D)`.
        columns: Selects the features of each task.
    """

    def __init__(self, readers: Sequence[nn.Module], heads: Sequence[nn.Module], widths: Sequence[int]) -> None:
        super().__init__(heads)
        self.pool = TaskReaders(readers)
        self.columns = nn.ModuleList(TaskColumns(*ends) for ends in pairwise(accumulate(widths, initial=0)))

    def answers(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map the features of all tasks to the outputs `(B, c)` of each."""
        return tuple(head(columns(x)) for head, columns in zip(self.heads, self.columns, strict=True))

    def select(self, numbers: Sequence[int]) -> nn.Module:
        """Return the head of some tasks; also a single one has to read its own layers."""
        columns: Any = [self.columns[number] for number in numbers]
        return PerTaskHead(
            [self.pool.tasks[number] for number in numbers],
            [self.heads[number] for number in numbers],
            [each.width_until - each.width_before for each in columns],
        )

    def task_state(self, number: int) -> dict[str, Tensor]:
        """Return the weights of a task's head as that of a network of this task alone has them."""
        own_pool: Any = self.pool.tasks[number].pool
        pooling = {} if own_pool is None else own_pool.state_dict(prefix=POOL)
        return {**pooling, **self.heads[number].state_dict()}

    def load_task_state(self, number: int, state: dict[str, Tensor]) -> None:
        """Load the weights of a task's head, as `task_state` gives them."""
        own_pool: Any = self.pool.tasks[number].pool
        if own_pool is not None:
            own_pool.load_state_dict({n.removeprefix(POOL): t for n, t in state.items() if n.startswith(POOL)})
        self.heads[number].load_state_dict({n: t for n, t in state.items() if not n.startswith(POOL)})


def build_per_task_head(tasks: Sequence[TaskHead], channels: Sequence[int], widths: Sequence[int]) -> PerTaskHead:
    """Build an untrained head.

    Args:
        tasks: The head of each task.
        channels: Channels of each layer that some task reads.
        widths: Columns of each task.

    Raises:
        ModelFileError: If there are other tasks, or other layers.
    """
    if len(tasks) != len(widths) or any(place >= len(channels) for task in tasks for place in task.layers):
        text = f"an edit sets heads of {len(tasks)} tasks on {len(channels)} layers, which do not fit"
        raise ModelFileError(f"{text} the {len(widths)} tasks of its output", "get an intact copy", code="E404")
    readers, heads, features = list[nn.Module](), list[nn.Module](), list[int]()
    for task, width in zip(tasks, widths, strict=True):
        task_channels = [channels[place] for place in task.layers]
        head = build_head(task.spec, task_channels, width)
        own_pool = pool_of(head)
        if own_pool is not None:
            # Held once: of what stands in two places, every weight would be stored twice.
            del head.pool
        readers.append(LayerReader(task.layers, own_pool))
        heads.append(head)
        features.append(own_pool.gives if isinstance(own_pool, Pool) else sum(task_channels))
    return PerTaskHead(readers, heads, features)
