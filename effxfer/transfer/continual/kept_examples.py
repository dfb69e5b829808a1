"""Examples in a memory: which ones a task adds, and where those are that it only refers to."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from effxfer.data.batches.batches import seed_of
from effxfer.data.continual.exemplars import Exemplars, Keep, balance, exemplars_of, herd, sample_reservoir
from effxfer.data.continual.memory import Memory
from effxfer.data.task import Split, Task
from effxfer.errors import DataError
from effxfer.net.net import Net
from effxfer.runtime.rows import concat_rows
from effxfer.transfer.continual.learner import own_classes
from effxfer.transfer.fine_tuning.linear import features_of

Store = Literal["rows", "references"]
EXEMPLARS, HOLDOUTS = "kept/", "held/"
# Chosen: an accuracy of 90 % then has a standard error of 2 points, and 12 tasks of 32 px take 7 MB.
HOLDOUT = 200


def read_exemplars(memory: Memory | None, tasks: Sequence[Task], section: str = EXEMPLARS) -> Exemplars | None:
    """Return the examples of a memory with their rows; None if it has none.

    Args:
        memory: The memory.
        tasks: Tasks of the stage, among them those whose examples the memory refers to.
        section: `EXEMPLARS` for those to train on, `HOLDOUTS` for those to measure on.

    Raises:
        DataError: If the memory refers to examples of a task that is not among `tasks` (E380).
    """
    exemplars = exemplars_of(memory.section(section)) if memory else None
    if exemplars is None or memory is None or exemplars.rows is not None:
        return exemplars
    places, rows = list[Any](), list[Any]()
    for number in np.unique(exemplars.task).tolist():
        place = np.flatnonzero(exemplars.task == number)
        places.append(place)
        rows.append(_split_of(memory.tasks[number], tasks, section).rows[exemplars.place[place]])
    order = np.argsort(np.concatenate(places), kind="stable")
    return replace(exemplars, rows=concat_rows(rows)[order])


def _split_of(learned: Mapping[str, Any], tasks: Sequence[Task], section: str) -> Split:
    for task in tasks:
        if (task.name, task.digest) == (learned["name"], learned["digest"]):
            return task.train if section == EXEMPLARS else task.val
    text = f"the memory only refers to examples of {learned['name']!r}, which is not among the data"
    raise DataError(text, "give that data as well, unchanged: it is read, not learned again", code="E380")


def candidates_of(split: Split, number: int) -> Exemplars:
    """Return all examples of a split as those of task `number`."""
    count = len(split)
    labels = np.asarray(split.labels).astype(np.int64)
    return Exemplars(rows=split.rows, labels=labels, task=np.full(count, number, np.int64), place=np.arange(count))


def add_examples(
    net: Net, exemplars: Exemplars | None, task: Task, number: int, size: int, keep: Keep, visited: int
) -> Exemplars:
    """Return at most `size` examples of the earlier tasks and of a new one.

    Args:
        net: The network that has learned the new task; herding asks its features.
        exemplars: Examples of the earlier tasks.
        task: The new task.
        number: Its number.
        size: Most examples.
        keep: How they are chosen.
        visited: Training examples of the earlier tasks.
    """
    # By the task and not by a setting: it must be the same in the next process, and another one for the next task.
    rng = np.random.default_rng(seed_of("exemplars", task.digest, number))
    candidates = candidates_of(task.train, number)
    if keep == "reservoir":
        return sample_reservoir(exemplars, candidates, size, visited, rng)
    order = rng.permutation(len(candidates))
    if keep == "herding":
        features = features_of(net, task)[0].cpu().numpy()
        features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        order = np.concatenate([rows[herd(features[rows])] for rows in _by_class(candidates)])
    # Only as many of a class as can stay: rows of images are copied out of the cache here.
    ordered = [order[candidates.labels[order] == label][:size] for label in np.unique(candidates.labels)]
    return balance(exemplars, candidates.select(np.concatenate(ordered)), size)


def _by_class(candidates: Exemplars) -> list[Any]:
    return [np.flatnonzero(candidates.labels == label) for label in np.unique(candidates.labels)]


def hold_out(exemplars: Exemplars | None, task: Task, number: int, size: int) -> Exemplars | None:
    """Add at most `size` validation examples of a task to those of earlier ones, balanced over its classes."""
    if not size:
        return exemplars
    rng = np.random.default_rng(seed_of("held", task.digest, number))
    candidates = candidates_of(task.val, number)
    chosen = balance(None, candidates.select(rng.permutation(len(candidates))), size)
    return chosen if exemplars is None else exemplars.join(chosen)


def rehearsal_task(task: Task, exemplars: Exemplars) -> Task:
    """Return a task with the kept examples alone to train on."""
    names = [f"kept example {place}" for place in range(len(exemplars))]
    return replace(task, train=Split(rows=exemplars.rows, labels=exemplars.labels, names=names))


def held_parts(memory: Memory | None, tasks: Sequence[Task]) -> list[tuple[Any, Any]]:
    """Return rows and labels of what is held out of each earlier task, to measure on."""
    holdouts = read_exemplars(memory, tasks, HOLDOUTS)
    if holdouts is None:
        return []
    parts = [holdouts.select(np.flatnonzero(holdouts.task == number)) for number in np.unique(holdouts.task)]
    return [(part.rows, part.labels) for part in parts]


def learned_task(task: Task) -> dict[str, Any]:
    """Return the entry of a task in a memory."""
    return {"name": task.name, "digest": task.digest, "classes": own_classes(task), "reached": {}}


def new_memory(
    memory: Memory | None, tasks: Sequence[Task], facts: Mapping[str, Any], tensors: Mapping[str, Tensor], *,
    exemplars: Exemplars | None = None, holdout: int = HOLDOUT, store: Store = "rows",
) -> Memory:  # fmt: skip
    """Return the memory after the last of `tasks`.

    Args:
        memory: The memory before.
        tasks: Tasks of the stage.
        facts: Strategy, scenario and other plain values.
        tensors: What the strategy keeps beside examples.
        exemplars: Examples to train on later.
        holdout: Validation examples of each task to measure on later.
        store: Whether examples are copied into the memory.
    """
    number, references = len(memory.tasks if memory else ()), store == "references"
    holdouts = hold_out(read_exemplars(memory, tasks, HOLDOUTS), tasks[-1], number, holdout)
    present = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    present |= exemplars.tensors(EXEMPLARS, references=references) if exemplars is not None else {}
    present |= holdouts.tensors(HOLDOUTS, references=references) if holdouts is not None else {}
    learned = memory.tasks if memory else ()
    visited = (memory.facts.get("visited", 0) if memory else 0) + len(tasks[-1].train)
    return Memory(tasks=(*learned, learned_task(tasks[-1])), tensors=present, facts={**facts, "visited": visited})
