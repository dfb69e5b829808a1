"""Features of two splits, computed once: the data of a head search."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from effxfer.errors import DataError
from effxfer.files import digest
from effxfer.net.heads.build import head_parameters
from effxfer.net.heads.spec import HeadSpec
from effxfer.runtime.outputs.base import Labels, Output
from effxfer.runtime.outputs.multi_label import UNKNOWN
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.search.inputs import Matrices
from effxfer.search.space import Taps


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Features on which heads are trained and judged.

    Attributes:
        train: float32 `(N, D_t)` of the training split for each layer t; may be memory-mapped.
        val: float32 `(M, D_t)` of the validation split for each layer.
        labels: Of the training split: int64 `(N,)`, or of another kind of label, as `Split.labels` has them. Examples
            without a label, as one of several tasks may have them, take no part.
        val_labels: Of the validation split, M.
        output: Kind of the labels, and the names of the head's columns.
        train_maps: The same layers as they are, not averaged: `(N, D, h, w)` or `(N, n, D)`; empty if there are
            none, and then no head pools.
        val_maps: Maps of the validation split.
    """

    train: Mapping[str, NDArray[np.float32]]
    val: Mapping[str, NDArray[np.float32]]
    labels: Labels
    val_labels: Labels
    output: Output
    train_maps: Matrices = field(default_factory=dict)
    val_maps: Matrices = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split, matrices, labels in (("train", self.train, self.labels), ("val", self.val, self.val_labels)):
            _check(split, matrices, labels)
            _check_labels(split, labels, self.output)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The training examples that have a label, in rising order."""
        return np.flatnonzero(has_label(self.output, self.labels))

    @cached_property
    def val_rows(self) -> NDArray[np.int64]:
        """The validation examples that have a label, in rising order."""
        return np.flatnonzero(has_label(self.output, self.val_labels))

    def inputs(self, split: Literal["train", "val"], spec: HeadSpec) -> Matrices:
        """Return the inputs of a head from a split: maps of layers if it pools, else their averages."""
        maps, vectors = (self.train_maps, self.train) if split == "train" else (self.val_maps, self.val)
        return maps if spec.pool != "mean" else vectors

    def channels(self, taps: Taps, spec: HeadSpec) -> list[int]:
        """Count the channels of each layer that is an input of a head."""
        shapes = [self.inputs("train", spec)[tap].shape for tap in taps]
        return [shape[2] if len(shape) == 3 else shape[1] for shape in shapes]

    def parameters(self, spec: HeadSpec, taps: Taps) -> int:
        """Count the trainable numbers of a head."""
        return head_parameters(spec, self.channels(taps, spec), self.output.width)

    def shape(self) -> str:
        """Digest labels, names and shapes."""
        values = [_plain(self.labels), _plain(self.val_labels), self._columns()]
        values += [[name, list(a.shape)] for m in (self.train, self.train_maps) for name, a in m.items()]
        return digest(values)

    def digest(self) -> str:
        """Digest every number and name."""
        total = hashlib.sha256(repr((self._columns(), list(self.train), list(self.train_maps))).encode())
        maps = (*self.train_maps.values(), *self.val_maps.values())
        for array in (self.labels, self.val_labels, *self.train.values(), *self.val.values(), *maps):
            plain: NDArray[Any] = np.ascontiguousarray(array)
            # Shapes as well: the same bytes in another shape are other features.
            total.update(repr((plain.shape, str(plain.dtype))).encode())
            total.update(plain.data)
        return total.hexdigest()[:16]

    def _columns(self) -> Any:
        # Of single labels their number alone, as the journals of earlier searches have it.
        return self.output.width if isinstance(self.output, SingleLabel) else self.output.to_json()


def _check(split: str, matrices: Mapping[str, NDArray[np.float32]], labels: Labels) -> None:
    if not matrices or not len(labels):
        raise DataError(f"no {split} features to search a head on", "give at least one layer and one example")
    for name, matrix in matrices.items():
        if matrix.ndim != 2 or len(matrix) != len(labels):
            raise DataError(f"{split} features of {name!r} have shape {matrix.shape} for {len(labels)} labels")
        # A single NaN would make every head's loss NaN, and the search would blame the heads.
        if not np.isfinite(matrix).all():
            raise DataError(f"{split} features of {name!r} contain NaN or infinity", "check the backbone's weights")


def _check_labels(split: str, labels: Labels, output: Output) -> None:
    if not isinstance(output, SingleLabel):
        if labels.shape[1:] != (output.width,):
            raise DataError(f"{split} labels have shape {labels.shape} for {output.width} columns")
    elif labels.min() < -1 or labels.max() >= output.width:
        text = f"{split} labels run from {labels.min()} to {labels.max()}, not within 0 to {output.width - 1}"
        raise DataError(f"{text}, or -1 for none")
    if not has_label(output, labels).any():
        raise DataError(f"no {split} example has a label to search a head for")


def has_label(output: Output, labels: Labels) -> NDArray[np.bool_]:
    """Tell which of N examples have a label, `(N,)`: one that is not wholly unknown."""
    if isinstance(output, SingleLabel):
        return labels >= 0
    is_known = np.asarray(~np.isnan(labels) if isinstance(output, Regression) else labels != UNKNOWN)
    return np.asarray(is_known.any(axis=1))


def _plain(labels: Labels) -> Any:
    # Numbers may be NaN where they are unknown, which JSON has not.
    return labels.tolist() if labels.ndim == 1 else labels.tobytes().hex()
