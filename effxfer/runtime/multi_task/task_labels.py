"""Labels of several tasks of which some tag words: those of whole texts, and beside them a tag for each word.

Shape legend: N texts, L positions of the longest, C columns of all tasks together, W columns of the labels of texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.outputs.positions import PositionLabels
from effxfer.runtime.outputs.tagging import UNLABELLED, TagLabels


@dataclass(frozen=True, eq=False)
class TaskLabels(PositionLabels):
    """Labels of texts and of their words.

    Attributes:
        groups: See `PositionLabels`; each text is one row, as its class is that of all of it.
        numbers: Labels of the tasks of whole texts, float32 `(N, W)`, NaN where unknown; see `TaskOutputs`.
        tags: Of each task of words, as `TagLabels.tags`, int64 `(N, L)`; -100 everywhere for a text without tags.
        columns: Columns of the network's outputs that each task of words has.
    """

    numbers: NDArray[np.float32]
    tags: Mapping[str, NDArray[np.int64]]
    columns: Mapping[str, slice]

    def __getitem__(self, rows: Any, /) -> "TaskLabels":
        tags = {name: each[rows] for name, each in self.tags.items()}
        return TaskLabels(self.groups[rows], self.numbers[rows], tags, self.columns)

    def restrict(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return outputs `(N, L, C)` in which the columns of a task of words are 0 at positions without its tag."""
        restricted = raw.copy()
        for name, place in self.columns.items():
            columns = restricted[:, :, place]
            columns[self.tags[name][:, : raw.shape[1]] == UNLABELLED] = 0
        return restricted

    def of_words(self, task: str) -> tuple[NDArray[np.bool_], TagLabels]:
        """Return which texts have tags of a task, `(N,)`, and these tags."""
        tags = self.tags[task]
        tagged: NDArray[np.bool_] = (tags != UNLABELLED).any(1)
        # A number of its own for each row: of texts that are drawn twice, the second is another one.
        return tagged, TagLabels(np.arange(len(tags))[tagged], tags[tagged])


def concat_labels(parts: Sequence[Any]) -> Any:
    """Join the labels of several splits end to end: arrays, or `TaskLabels` of the same tasks."""
    if not isinstance(parts[0], TaskLabels):
        return np.concatenate(parts)
    tags = {name: concat_tags([part.tags[name] for part in parts]) for name in parts[0].tags}
    numbers = np.concatenate([part.numbers for part in parts])
    return TaskLabels(np.arange(len(numbers)), numbers, tags, parts[0].columns)


def concat_tags(parts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Join tags `(n, l)` of different l end to end, `(N, L)`; -100 behind a text."""
    longest = max(part.shape[1] for part in parts)
    return np.concatenate([widen_tags(part, longest) for part in parts])


def widen_tags(tags: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Return tags `(N, l)` with columns of -100 behind them, `(N, length)`."""
    return np.pad(tags, ((0, 0), (0, length - tags.shape[1])), constant_values=UNLABELLED)
