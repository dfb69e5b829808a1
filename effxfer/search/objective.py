"""Training and judging one head on features held in memory.

Shape legend: N examples, D features, C classes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from effxfer.errors import DataError
from effxfer.net.heads import HeadSpec, Standardize, build_head, fold_standardize, head_parameters, safe_deviation
from effxfer.search.quick import FlatAdamW, replace_dropout
from effxfer.search.space import Candidate, SearchSettings, Taps

Rows = NDArray[np.int64]
Report = Callable[[int, float], None]
MIN_BATCH, MIN_STEPS = 16, 8


class DivergedError(ArithmeticError):
    """A head whose loss became infinite or not a number."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """What heads are trained and judged on.

    Attributes:
        train: float32 `(N, D_t)` of the training split for each layer t; may be memory-mapped.
        val: float32 `(M, D_t)` of the validation split for each layer.
        labels: int64 `(N,)` of the training split.
        val_labels: int64 `(M,)` of the validation split.
        classes: C.
    """

    train: Mapping[str, NDArray[np.float32]]
    val: Mapping[str, NDArray[np.float32]]
    labels: NDArray[np.int64]
    val_labels: NDArray[np.int64]
    classes: int

    def __post_init__(self) -> None:
        for split, matrices, labels in (("train", self.train, self.labels), ("val", self.val, self.val_labels)):
            _check(split, matrices, labels, self.classes)

    def width(self, taps: Taps) -> int:
        """Count the features that the layers give together."""
        return sum(self.train[t].shape[1] for t in taps)

    def digest(self) -> str:
        """Digest every number and name."""
        total = hashlib.sha256(repr((self.classes, list(self.train))).encode())
        for array in (self.labels, self.val_labels, *self.train.values(), *self.val.values()):
            plain: NDArray[Any] = np.ascontiguousarray(array)
            total.update(repr((plain.shape, str(plain.dtype))).encode())
            total.update(plain.data)
        return total.hexdigest()[:16]


def fold_rows(labels: NDArray[np.int64], folds: int, seed: int) -> list[tuple[Rows, Rows]]:
    """Cut examples into parts with the same share of each class; a class with one example is only trained on.

    Args:
        labels: `(N,)`.
        folds: What `SearchSettings.folds` says.
        seed: Of the shuffle.

    Returns:
        For each fold the rows to train on and the rows to judge on, disjoint and in rising order.
    """
    n = len(labels)
    folds = folds or (5 if n < 500 else 3 if n < 3000 else 1)
    parts = min(5 if folds == 1 else folds, n)
    order = np.random.default_rng(seed).permutation(n)
    order = order[np.argsort(labels[order], kind="stable")]
    part = np.empty(n, np.int64)
    part[order] = np.arange(n) % parts
    part[np.bincount(labels)[labels] == 1] = -1
    found = [(np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in range(folds)]
    return [(train, judge) for train, judge in found if len(train) and len(judge)]


def rungs(epochs: int) -> list[int]:
    """List the epochs after which a trial is judged: a ninth, a third, all."""
    return sorted({max(1, epochs // 9), max(1, epochs // 3), epochs})


def judge(
    features: Features,
    candidate: Candidate,
    settings: SearchSettings,
    *,
    folds: list[tuple[Rows, Rows]],
    reference: int,
    seed: int,
    report: Report,
) -> float:
    """Train a head on all but one part of the training split, judge it on the part, and average over the folds.

    Early rungs use few folds, the last one all: a trial that is stopped early costs little.

    Args:
        features: Only its training split is used.
        candidate: The head.
        settings: Epochs, batch, metric and penalty.
        folds: What `fold_rows` gave.
        reference: Parameters of a head that is neither rewarded nor punished for its size.
        seed: Of initialisation, shuffling and dropout.
        report: Told epoch and objective at every rung; may raise to stop the trial.

    Returns:
        The metric, 0 to 1, minus the penalty for size.

    Raises:
        DivergedError: If the loss becomes infinite or not a number.
    """
    penalty = size_penalty(features, candidate, settings, reference)
    runs = [Training(features, candidate, settings, rows=train, seed=seed + k) for k, (train, _) in enumerate(folds)]
    labels = torch.from_numpy(features.labels)
    held = [(gather(features.train, candidate.taps, rows), labels[torch.from_numpy(rows)]) for _, rows in folds]
    value, marks = 0.0, rungs(settings.epochs)
    for k, epoch in enumerate(marks, 1):
        scores = []
        for run, (x, y) in islice(zip(runs, held, strict=True), math.ceil(len(runs) * k / len(marks))):
            run.advance(epoch)
            scores.append(run.score(x, y, settings.metric))
        value = sum(scores) / len(scores) - penalty
        report(epoch, value)
    return value


def size_penalty(features: Features, candidate: Candidate, settings: SearchSettings, reference: int) -> float:
    """Give what is taken off the metric: `size_penalty` for each factor of ten over the reference; less is a gift."""
    own = head_parameters(candidate.spec, features.width(candidate.taps), features.classes)
    return settings.size_penalty * math.log10(own / reference)


class Training:
    """One head on its way through the epochs: AdamW, warm-up over a twentieth of the steps, cosine to zero.

    Features are standardised once, before the first epoch, where the spec says so.
    """

    def __init__(
        self, features: Features, candidate: Candidate, settings: SearchSettings, *, rows: Rows | None, seed: int
    ) -> None:
        self.spec, self.lr, self.epochs = candidate.spec, candidate.lr, settings.epochs
        self.x = gather(features.train, candidate.taps, rows)
        self.y = torch.from_numpy(features.labels if rows is None else features.labels[rows])
        self.mean, self.deviation = torch.zeros(()), torch.ones(())
        if self.spec.standardize:
            self.mean, self.deviation = self.x.mean(0), safe_deviation(self.x.std(0, correction=0))
            self.x.sub_(self.mean).div_(self.deviation)
        self.epoch = 0
        self.batch = min(settings.batch, max(MIN_BATCH, len(self.x) // MIN_STEPS), len(self.x))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inner = self.spec.model_copy(update={"standardize": False})
            self.head = build_head(inner, self.x.shape[1], features.classes)
        self.random = np.random.Generator(np.random.SFC64(seed))
        replace_dropout(self.head, self.random)
        self.optimizer = FlatAdamW(self.head.parameters(), weight_decay=candidate.weight_decay)

    def advance(self, epoch: int) -> None:
        """Train up to the end of `epoch`.

        Raises:
            DivergedError: If the loss becomes infinite or not a number.
        """
        self.head.train()
        while self.epoch < epoch:
            self._one_epoch()
            self.epoch += 1

    def score(self, x: Tensor, y: Tensor, metric: str) -> float:
        """Judge the head on other examples: features `(N, D)` as they come, labels `(N,)`."""
        self.head.eval()
        with torch.inference_mode():
            x = (x - self.mean) / self.deviation if self.spec.standardize else x
            return measure(self.head(x).argmax(1), y, metric)

    def result(self) -> tuple[HeadSpec, dict[str, Tensor]]:
        """Give the head and its weights, with the standardisation merged into the weights where that is exact."""
        state = {name: tensor.detach().clone() for name, tensor in self.head.state_dict().items()}
        if self.spec.standardize:
            statistics = Standardize(len(self.mean))
            statistics.fit_(self.mean, self.deviation)
            state |= {f"standardize.{name}": tensor for name, tensor in statistics.state_dict().items()}
        return fold_standardize(self.spec, state)

    def _one_epoch(self) -> None:
        batches = len(self.x) // self.batch
        order = torch.from_numpy(self.random.permutation(len(self.x)))
        total = torch.zeros(())
        for rows in order[: batches * self.batch].view(batches, self.batch):
            loss = F.cross_entropy(self.head(self.x.index_select(0, rows)), self.y.index_select(0, rows))
            loss.backward()
            self.optimizer.step(self._rate(batches * self.epochs))
            total += loss.detach()
        if not torch.isfinite(total):
            raise DivergedError(f"loss {float(total)} in epoch {self.epoch + 1} at lr {self.lr:.3g}")

    def _rate(self, steps: int) -> float:
        step = self.optimizer.steps
        warm = min(1.0, (step + 1) / max(1, steps // 20))
        return self.lr * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


def train_head(
    features: Features, candidate: Candidate, settings: SearchSettings, seed: int
) -> tuple[HeadSpec, dict[str, Tensor]]:
    """Train a head on the whole training split; the same arguments give the same weights.

    Raises:
        DivergedError: If the loss becomes infinite or not a number.
    """
    training = Training(features, candidate, settings, rows=None, seed=seed)
    training.advance(settings.epochs)
    return training.result()


def score_head(features: Features, taps: Taps, spec: HeadSpec, state: Mapping[str, Tensor], metric: str) -> float:
    """Judge trained weights on the validation split: the metric, 0 to 1."""
    return measure(answers(features, taps, spec, state), torch.from_numpy(features.val_labels), metric)


def answers(features: Features, taps: Taps, spec: HeadSpec, state: Mapping[str, Tensor]) -> Tensor:
    """Give the classes that trained weights predict on the validation split: int64 `(M,)`."""
    head = build_head(spec, features.width(taps), features.classes)
    head.load_state_dict(dict(state))
    head.eval()
    with torch.inference_mode():
        predicted: Tensor = head(gather(features.val, taps)).argmax(1)
    return predicted


def measure(predicted: Tensor, labels: Tensor, metric: str) -> float:
    """Compare classes `(N,)` with classes `(N,)`.

    Returns:
        `accuracy`; `balanced_accuracy` (mean recall of the classes that occur); or `macro_f1` (mean F1 of the
        classes that occur or are predicted): 0 to 1.
    """
    if metric == "accuracy":
        return float((predicted == labels).float().mean())
    classes = int(torch.maximum(predicted.max(), labels.max())) + 1
    hits = torch.bincount(labels[predicted == labels], minlength=classes).double()
    truth, guesses = (torch.bincount(v, minlength=classes).double() for v in (labels, predicted))
    if metric == "balanced_accuracy":
        return float((hits / truth)[truth > 0].mean())
    return float((2 * hits / (truth + guesses))[truth + guesses > 0].mean())


def gather(matrices: Mapping[str, NDArray[np.float32]], taps: Taps, rows: Rows | None = None) -> Tensor:
    """Copy the features of some layers, side by side and in the order of `taps`, into one tensor."""
    parts = [matrices[t] if rows is None else matrices[t][rows] for t in taps]
    return torch.from_numpy(np.concatenate(parts, axis=1, dtype=np.float32))


def _check(split: str, matrices: Mapping[str, NDArray[np.float32]], labels: NDArray[np.int64], classes: int) -> None:
    if not matrices or not len(labels):
        raise DataError(f"no {split} features to search a head on", "give at least one layer and one example")
    for name, matrix in matrices.items():
        if matrix.ndim != 2 or len(matrix) != len(labels):
            raise DataError(f"{split} features of {name!r} have shape {matrix.shape} for {len(labels)} labels")
        if not np.isfinite(matrix).all():
            raise DataError(f"{split} features of {name!r} contain NaN or infinity", "check the backbone's weights")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"{split} labels run from {labels.min()} to {labels.max()}, not within 0 to {classes - 1}")
