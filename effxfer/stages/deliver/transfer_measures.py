"""Measure a model on the test split, its worst class, and the target, each with what it lost against the first model.

Shape legend: N examples, C classes.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import sqrt
from typing import NamedTuple

import numpy as np
import torch

from effxfer.data.target import concat_splits, is_new
from effxfer.data.task import Split
from effxfer.deploy.decisions.wilson import wilson
from effxfer.net.heads.prototypes import Prototypes
from effxfer.report import Measurement, score_name
from effxfer.runtime.multi_task.task_outputs import TaskOutputs, TaskPart
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.stages.deliver.report_candidates import Candidate
from effxfer.stages.train.target_domain import comparison_of
from effxfer.stages.train.zero_shot.report import compares_classes
from effxfer.train.episodes import measure_few_shot


class Measured(NamedTuple):
    """A figure of one model.

    Attributes:
        task: The task; empty for a network of one task.
        metric: What it is of every model, such as `accuracy/test` and `accuracy/test/drop`.
        row: The figure, whose name also says which task and model.
    """

    task: str
    metric: str
    row: Measurement


class Measures:
    """Measures models one after another; the first one is what the others are compared with.

    Args:
        z: Half the width of intervals in standard deviations.
        seed: Random seed of the episodes.
    """

    def __init__(self, z: float, seed: int) -> None:
        self.z, self.seed = z, seed
        self.first: dict[str, TaskPart] = {}

    def test(self, candidate: Candidate) -> Iterator[Measured]:
        """Measure the test split, and its worst class."""
        split = candidate.task.test
        for part in _parts_of(candidate, split):
            yield from self._compare("test", candidate, part)
            if isinstance(part.output, SingleLabel) and part.output.width > 1:
                yield self._worst_class(candidate, part, part.output)

    def target(self, candidate: Candidate) -> Iterator[Measured]:
        """Measure the target: another domain, new classes by their embeddings, or new classes by episodes."""
        target = candidate.task.target
        if target is None:
            return
        if not is_new(candidate.task):
            for part in _parts_of(candidate, target.test):
                yield from self._compare("target", candidate, part)
        elif compares_classes(candidate.net, candidate.task):
            for row in candidate.on_class_embeddings().rows:
                yield Measured("", row.name, _rename(row, f"{row.name}/{candidate.name}"))
        else:
            yield from self._episodes(candidate, concat_splits(target))

    def _episodes(self, candidate: Candidate, split: Split) -> Iterator[Measured]:
        # A head of prototypes compares in its own way; others by the cosine, which needs no training either.
        near = comparison_of(candidate.net) if isinstance(candidate.net.head, Prototypes) else _cosine
        name = f"accuracy/target/{candidate.name}"
        for row in measure_few_shot(candidate.features(split), split.labels, near, name, self.seed).rows:
            yield Measured("", f"accuracy/target{row.name.removeprefix(name)}", row)

    def _compare(self, split: str, candidate: Candidate, part: TaskPart) -> Iterator[Measured]:
        """Measure the main metric of a task, and its loss against the first model on the same examples."""
        first = self.first.setdefault(f"{split}/{part.name}", part)
        is_share = isinstance(part.output, SingleLabel)
        score = part.output.score(part.raw, part.labels, candidate.net.input.unit)
        ends: dict[str, float] = {}
        if is_share:
            ends["low"], ends["high"] = wilson(round(score.value * score.n / 100), score.n, self.z)
        yield _to_measured(split, candidate, part, "", Measurement(
            name=score.metric, value=score.value, unit="%", n=score.n, of=score.of, **ends,
        ))  # fmt: skip
        if first is part:
            return
        drop, deviation = _share_drop(first, part) if is_share else _score_drop(first, part)
        low, high = drop - self.z * deviation, drop + self.z * deviation
        yield _to_measured(split, candidate, part, "/drop", Measurement(
            name=score.metric, value=drop, unit="points", low=low, high=high, n=score.n, of=score.of,
        ))  # fmt: skip

    def _worst_class(self, candidate: Candidate, part: TaskPart, output: SingleLabel) -> Measured:
        correct = output.correct(part.raw, part.labels)
        counts = np.bincount(part.labels, minlength=output.width)
        hits = np.bincount(part.labels[correct], minlength=len(counts))
        present = np.flatnonzero(counts)
        worst = int(present[np.argmin(hits[present] / counts[present])])
        low, high = wilson(int(hits[worst]), int(counts[worst]), self.z)
        return _to_measured("test", candidate, part, "", Measurement(
            name="worst class", value=100 * float(hits[worst] / counts[worst]), unit="%", low=low, high=high,
            n=int(counts[worst]), of=f"{candidate.net.input.unit} of {output.classes[worst]}",
        ))  # fmt: skip


def _parts_of(candidate: Candidate, split: Split) -> Iterator[TaskPart]:
    """Yield each task that has labels in a split; the only task of a network has no name."""
    if not len(split):
        return
    raw, output = candidate.logits(split.rows), candidate.net.output
    if isinstance(output, TaskOutputs):
        yield from output.parts(raw, split.labels)
    else:
        yield TaskPart("", output, raw, split.labels)


def _to_measured(split: str, candidate: Candidate, part: TaskPart, end: str, row: Measurement) -> Measured:
    name = score_name(row.name, f"{split}/{candidate.name}", part.name)
    return Measured(part.name, f"{row.name}/{split}{end}", _rename(row, name + end))


def _rename(row: Measurement, name: str) -> Measurement:
    return replace(row, name=name)


def _share_drop(first: TaskPart, part: TaskPart) -> tuple[float, float]:
    """Return the loss of accuracy and its deviation, in points."""
    assert isinstance(part.output, SingleLabel)
    assert isinstance(first.output, SingleLabel)
    before, after = first.output.correct(first.raw, first.labels), part.output.correct(part.raw, part.labels)
    # Only examples on which exactly one is right count: McNemar's variance.
    count, losses, wins = len(after), int((before & ~after).sum()), int((~before & after).sum())
    return 100 * (losses - wins) / count, 100 * sqrt(losses + wins - (losses - wins) ** 2 / count) / count


def _score_drop(first: TaskPart, part: TaskPart) -> tuple[float, float]:
    """Return the loss of another metric and its deviation, in points; the bootstrap gives that of most."""
    # Values of two networks may be standardised in two ways.
    before = part.output.from_answers(first.output.to_answers(first.raw))
    drop = part.output.score(before, part.labels).value - part.output.score(part.raw, part.labels).value
    return drop, part.output.drop_deviation(before, part.raw, part.labels)


def _cosine(features: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features, dim=1) @ torch.nn.functional.normalize(prototypes, dim=1).T
