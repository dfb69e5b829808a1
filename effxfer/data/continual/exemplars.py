"""Examples of earlier tasks that a memory keeps: which rows stay, and how they are stored.

Shape legend: N kept examples, M candidates of a task, D features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effxfer.runtime.rows import Ragged, concat_rows

Keep = Literal["balanced", "herding", "reservoir"]
Indices = NDArray[np.int64]
NO_ROWS = np.zeros((0,), np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Exemplars:
    """Kept examples, in the order in which they are dropped: of each task and class, the last one first.

    Attributes:
        rows: As the network sees them, `(N, ...)`; None if the memory only refers to them.
        labels: Column of the head of each one, int64 `(N,)`.
        task: Number of its task, int64 `(N,)`.
        place: Its row in the split of its task, int64 `(N,)`.
    """

    rows: Any
    labels: Indices
    task: Indices
    place: Indices

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, chosen: Indices) -> "Exemplars":
        """Select examples by their indices, in this order."""
        return Exemplars(
            rows=None if self.rows is None else self.rows[chosen],
            labels=self.labels[chosen], task=self.task[chosen], place=self.place[chosen],
        )  # fmt: skip

    def join(self, further: "Exemplars") -> "Exemplars":
        """Append other examples."""
        rows = None if self.rows is None or further.rows is None else concat_rows([self.rows, further.rows])
        parts = {
            name: np.concatenate([getattr(self, name), getattr(further, name)]) for name in ("labels", "task", "place")
        }
        return Exemplars(rows=rows, **parts)

    def tensors(self, prefix: str, *, references: bool = False) -> dict[str, Tensor]:
        """Return them as tensors whose names begin with `prefix`; without their rows if `references`."""
        out = {name: torch.from_numpy(getattr(self, name)) for name in ("labels", "task", "place")}
        if not references and isinstance(self.rows, Ragged):
            out |= {"values": torch.tensor(self.rows.values), "ends": torch.tensor(self.rows.ends)}
        elif not references:
            out["rows"] = torch.tensor(self.rows)
        return {prefix + name: tensor.contiguous() for name, tensor in out.items()}


def exemplars_of(tensors: Mapping[str, Tensor]) -> Exemplars | None:
    """Return the examples that `Exemplars.tensors` wrote, without their prefix; None if there are none."""
    if not len(tensors.get("labels", ())):
        return None
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    rows = Ragged(arrays["values"], arrays["ends"]) if "values" in arrays else arrays.get("rows")
    return Exemplars(rows=rows, labels=arrays["labels"], task=arrays["task"], place=arrays["place"])


def share_out(counts: Sequence[int], size: int) -> list[int]:
    """Share `size` places among groups of `counts` examples as equally as possible, none unused while examples remain.

    >>> share_out([1, 10, 10], 9)
    [1, 4, 4]
    """
    shares = [0] * len(counts)
    while (free := size - sum(shares)) > 0 and (open_groups := [i for i, c in enumerate(counts) if shares[i] < c]):
        # At least one place for the first groups, so that a remainder is given away as well.
        each = max(1, free // len(open_groups))
        for group in open_groups[:free]:
            shares[group] = min(counts[group], shares[group] + each)
    return shares


def balance(exemplars: Exemplars | None, candidates: Exemplars, size: int) -> Exemplars:
    """Keep at most `size` examples, of every task and class equally many: the first ones of each.

    Args:
        exemplars: Examples of earlier tasks; None for none.
        candidates: Examples of the new task, the most wanted of each class first.
        size: Most examples.
    """
    pool = candidates if exemplars is None else exemplars.join(candidates)
    groups = [np.flatnonzero((pool.task == t) & (pool.labels == c)) for t, c in _pairs(pool)]
    shares = share_out([len(group) for group in groups], size)
    chosen = [group[:share] for group, share in zip(groups, shares, strict=True)]
    return pool.select(np.concatenate(chosen) if chosen else NO_ROWS)


def _pairs(pool: Exemplars) -> list[tuple[int, int]]:
    return sorted({(int(t), int(c)) for t, c in zip(pool.task, pool.labels, strict=True)})


def sample_reservoir(
    exemplars: Exemplars | None, candidates: Exemplars, size: int, visited: int, rng: np.random.Generator
) -> Exemplars:
    """Keep a uniform sample of everything so far (algorithm R; Vitter, 1985, https://doi.org/10.1145/3147.3165).

    Args:
        exemplars: The sample of the earlier tasks; None before the first.
        candidates: Examples of the new task; they arrive in random order.
        size: Most examples.
        visited: Examples of the earlier tasks.
        rng: Draws their order and their places.
    """
    before = 0 if exemplars is None else len(exemplars)
    sample = list(range(before))
    for count, index in enumerate(rng.permutation(len(candidates)).tolist(), start=visited):
        if len(sample) < size:
            sample.append(before + index)
        elif (place := int(rng.integers(0, count + 1))) < size:
            sample[place] = before + index
    chosen = np.sort(np.array(sample[:size], np.int64))
    # Chosen first and joined then: all examples of a task may not fit into memory.
    new = candidates.select(chosen[chosen >= before] - before)
    return new if exemplars is None else exemplars.select(chosen[chosen < before]).join(new)


def herd(features: NDArray[np.float32]) -> Indices:
    """Order examples so that the mean of the first k is near the mean of all, for every k.

    Welling, 2009; as Rebuffi et al., 2017, https://arxiv.org/abs/1611.07725, use it.

    Args:
        features: Features `(M, D)` of the examples of a class.

    Returns:
        The order `(M,)`.
    """
    mean, total = features.mean(0), np.zeros(features.shape[1], np.float64)
    remaining, order = np.ones(len(features), bool), list[int]()
    for step in range(1, len(features) + 1):
        distance = (((total + features) / step - mean) ** 2).sum(1)
        order.append(int(np.argmin(np.where(remaining, distance, np.inf))))
        remaining[order[-1]] = False
        total += features[order[-1]]
    return np.array(order, np.int64)
