"""Inputs of a head in training: concatenated averages of layers, or maps of layers.

Shape legend: N examples, D channels of a layer, F features side by side, P numbers that a pool gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from effxfer.net.heads.build import fold_standardize
from effxfer.net.heads.pools import pool_of
from effxfer.net.heads.spec import HeadSpec
from effxfer.net.heads.standardize import Standardize, safe_deviation

Rows = NDArray[np.int64]
Matrices = Mapping[str, NDArray[Any]]
State = dict[str, Tensor]
# 128 maps of 7 x 7 x 2,048 take 51 MB. 1,024 images give a channel's mean to 3 % of its deviation.
CHUNK, SAMPLE = 128, 1024
CACHE_BYTES = 256 * 2**20  # layers of this size stay in memory in float32; larger ones are read in every step


class Vectors:
    """Averages of some layers side by side, standardised once where the spec says so.

    Args:
        matrices: `(N, D)` of each layer of the training split.
        taps: The layers.
        spec: The head.
        rows: Of the examples to train on; None takes all.
    """

    def __init__(self, matrices: Matrices, taps: tuple[str, ...], spec: HeadSpec, rows: Rows | None) -> None:
        self.taps, self.spec = taps, spec
        self.x = gather(matrices, taps, rows)
        self.mean, self.deviation = torch.zeros(()), torch.ones(())
        if spec.standardize:
            self.mean, self.deviation = self.x.mean(0), safe_deviation(self.x.std(0, correction=0))
            self.x.sub_(self.mean).div_(self.deviation)

    def __len__(self) -> int:
        return len(self.x)

    def start(self, _head: nn.Module) -> None:
        """Nothing depends on the head."""

    def batch(self, _head: nn.Module, rows: Tensor) -> Tensor:
        """Inputs of the classifier from some of the examples: `(B, F)`."""
        return self.x.index_select(0, rows)

    def evaluation_batches(self, _head: nn.Module, matrices: Matrices, rows: Rows | None) -> Iterator[Tensor]:
        """Inputs of the classifier from other examples, in batches."""
        x = gather(matrices, self.taps, rows)
        yield (x - self.mean) / self.deviation if self.spec.standardize else x

    def result(self, head: nn.Module) -> tuple[HeadSpec, State]:
        """Return a trained head for raw features, with the standardisation merged if possible."""
        return _fold(self.spec, head, self.mean, self.deviation)


class Layers:
    """Maps of layers for a head with a pool, which sees their channels standardised during training (except GeM).

    The pooled vector is standardised by what the untrained pool gives: exact or not, it is a change of scale.

    Args:
        matrices: `(N, D, h, w)`, `(N, n, D)` or `(N, D)` of each layer; may be memory-mapped and float16.
        taps: The layers.
        spec: The head.
        rows: Of the examples to train on; None takes all.
    """

    def __init__(self, matrices: Matrices, taps: tuple[str, ...], spec: HeadSpec, rows: Rows | None) -> None:
        self.taps, self.spec, self.matrices = taps, spec, matrices
        self.rows = np.arange(len(matrices[taps[0]])) if rows is None else rows
        self.statistics = [self._channels(matrices[tap]) for tap in taps]
        each = sum(matrices[tap][0].size for tap in taps) * 4
        self.cached = self._layers(matrices, self.rows) if len(self.rows) * each <= CACHE_BYTES else None
        self.mean, self.deviation = torch.zeros(()), torch.ones(())

    def __len__(self) -> int:
        return len(self.rows)

    @torch.no_grad()
    def start(self, head: nn.Module) -> None:
        """Measure the mean and deviation of the untrained pool's output."""
        pooled = torch.cat([self._pool(head, self.matrices, rows) for rows in _chunks(self._sample_rows())])
        if self.spec.standardize:
            self.mean, self.deviation = pooled.mean(0), safe_deviation(pooled.std(0, correction=0))

    def batch(self, head: nn.Module, rows: Tensor) -> Tensor:
        """Inputs of the classifier from some of the examples: `(B, P)`."""
        pool: Any = pool_of(head)
        if self.cached is None:
            return self._standardize(self._pool(head, self.matrices, self.rows[rows.numpy()]))
        return self._standardize(pool([layer.index_select(0, rows) for layer in self.cached]))

    def evaluation_batches(self, head: nn.Module, matrices: Matrices, rows: Rows | None) -> Iterator[Tensor]:
        """Inputs of the classifier from other examples, in batches."""
        rows = np.arange(len(matrices[self.taps[0]])) if rows is None else rows
        for chunk in _chunks(rows):
            yield self._standardize(self._pool(head, matrices, chunk))

    def result(self, head: nn.Module) -> tuple[HeadSpec, State]:
        """Return a trained head for raw maps; the original head must not be used any more."""
        pool: Any = pool_of(head)
        scale, shift = pool.fold_(self.statistics)
        mean, deviation = torch.zeros_like(scale) + self.mean, torch.ones_like(scale) * self.deviation
        spec = self.spec.model_copy(update={"standardize": True})
        return _fold(spec, head, mean * scale + shift, deviation * scale)

    def _standardize(self, pooled: Tensor) -> Tensor:
        return (pooled - self.mean) / self.deviation

    def _pool(self, head: nn.Module, matrices: Matrices, rows: Rows) -> Tensor:
        pool: Any = pool_of(head)
        pooled: Tensor = pool(self._layers(matrices, rows))
        return pooled

    def _layers(self, matrices: Matrices, rows: Rows) -> list[Tensor]:
        layers = []
        for tap, (mean, deviation) in zip(self.taps, self.statistics, strict=True):
            # Copied: a mapped array is read-only, and half precision on the disk is float32 from here on.
            x = torch.from_numpy(np.array(matrices[tap][rows], dtype=np.float32))
            line = _line(x.dim())
            # GeM takes powers of positive numbers; standardised ones would be negative.
            layers.append(x if self.spec.pool == "gem" else x.sub_(mean.view(line)).div_(deviation.view(line)))
        return layers

    def _channels(self, matrix: NDArray[Any]) -> tuple[Tensor, Tensor]:
        x = torch.from_numpy(np.array(matrix[self._sample_rows()], dtype=np.float32))
        if self.spec.pool == "gem":
            width = x.shape[2] if x.dim() == 3 else x.shape[1]
            return torch.zeros(width), torch.ones(width)
        over = [axis for axis in range(x.dim()) if _line(x.dim())[axis] == 1]
        return x.mean(over), safe_deviation(x.std(over, correction=0))

    def _sample_rows(self) -> Rows:
        """Rows to measure statistics on, the first and the last one among them."""
        # Evenly spread and not drawn: the same statistics in every run.
        places = np.linspace(0, len(self.rows) - 1, min(SAMPLE, len(self.rows))).round().astype(np.int64)
        return self.rows[places]


def gather(matrices: Matrices, taps: tuple[str, ...], rows: Rows | None = None) -> Tensor:
    """Copy the features of some layers, side by side and in the order of `taps`, into one tensor."""
    parts = [matrices[t] if rows is None else matrices[t][rows] for t in taps]
    return torch.from_numpy(np.concatenate(parts, axis=1, dtype=np.float32))


def _line(dims: int) -> tuple[int, ...]:
    """Return the shape of one number per channel that broadcasts with layers of 2, 3 or 4 axes."""
    return {2: (1, -1), 3: (1, 1, -1), 4: (1, -1, 1, 1)}[dims]


def _chunks(rows: Rows) -> Iterator[Rows]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def _fold(spec: HeadSpec, head: nn.Module, mean: Tensor, deviation: Tensor) -> tuple[HeadSpec, State]:
    state = {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}
    if spec.standardize:
        statistics: Any = Standardize(len(mean))
        statistics.running_mean.copy_(mean)
        statistics.running_var.copy_(deviation**2)
        state |= {f"standardize.{name}": tensor for name, tensor in statistics.state_dict().items()}
    return fold_standardize(spec, state)
