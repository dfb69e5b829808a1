"""Let a teacher read its student's training texts with its own tokenizer.

A student whose vocabulary was pruned writes rare words with shorter tokens; a teacher has not learned these spellings.

Shape legend: B texts of a batch, n and m tokens of the longest for the student and for the teacher.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.runtime.inputs import Input
from effxfer.runtime.rows import Ragged


def teacher_reader(teacher: Input, task: Task) -> Callable[[Tensor], Tensor]:
    """Return the function from a batch of the student's ids `(B, n)` to the teacher's `(B, m)`.

    Texts are known by the student's ids: of two training texts that it cannot tell apart, the teacher reads the first.

    Args:
        teacher: The teacher's input, a tokenizer.
        task: The student's task, with its input; its training texts are encoded again.

    Raises:
        DataError: If the texts are not available, or were changed.
        SettingsError: From the function, if a row is no training text.
    """
    student, size = task.input, min(teacher.size, task.input.size)
    encoded: Ragged = task.with_input(teacher.with_size(size)).train.rows
    places = dict[bytes, int]()
    for place, row in enumerate(task.train.rows):
        places.setdefault(_key(row), place)

    def read(ids: Tensor) -> Tensor:
        rows = ids.cpu().numpy()
        numbers = [places.get(_key(row[real])) for row, real in zip(rows, student.real(rows), strict=True)]
        if None in numbers:
            problem = "a teacher with another tokenizer knows the training texts only, this strategy makes others"
            raise SettingsError(problem, "name a teacher with the tokenizer of the network, or leave teacher out")
        return torch.from_numpy(teacher.feed(encoded[np.array(numbers, np.int64)])).to(ids.device)

    return read


def _key(row: NDArray[np.integer]) -> bytes:
    return row.astype(np.int32).tobytes()
