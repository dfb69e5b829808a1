"""Evaluate a network: its outputs on a split, and their scores."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from effxfer.data.batches.buckets import length_order
from effxfer.data.batches.collate import input_tensor
from effxfer.data.task import Split
from effxfer.net.hooks import as_evaluated
from effxfer.net.net import Net
from effxfer.report import Measurement
from effxfer.runtime.inputs import Input
from effxfer.runtime.outputs.base import Labels, Output
from effxfer.runtime.rows import Ragged, join_results
from effxfer.train.devices import Device
from effxfer.train.settings import Amp

# Chosen: 256 texts of 128 tokens. Attention has a number for each pair of tokens and each head: 0.8 GB at 512.
MOST_TOKENS = 2**15


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode without gradients in the block, and restore each submodule's own mode afterwards."""
    with as_evaluated(module), torch.inference_mode():
        yield


def predict(
    module: nn.Module,
    rows: Any,
    input: Input,
    device: Device,
    *,
    batch: int = 256,
    amp: Amp = "off",
) -> Tensor:
    """Run a module on the decoded examples of a split; return its outputs `(N, ...)` in float32 on the CPU.

    Outputs per position, `(N, L, C)`, are 0 behind a text's end.
    Rows of different length run in the order of their length, the longest first; outputs are in the rows' own order.
    """
    out = []
    with evaluation_mode(module), device.autocast(amp):
        # 256: chosen; at 224 px the input takes 154 MB, the first maps of a ResNet-18 0.8 GB.
        for chosen in evaluation_batches(rows, batch):
            out.append(module(input_tensor(rows[chosen], input, device.torch)).float().cpu())
    if not isinstance(rows, Ragged):
        return torch.cat(out)
    order, inverse = length_order(rows.lengths)
    joined = join_results([result.numpy() for result in out], rows.lengths[order])
    return torch.from_numpy(joined[inverse])


def evaluation_batches(rows: Any, batch: int) -> Iterator[Any]:
    """Yield which rows each batch holds: slices, or the indices of rows of like length, the longest first."""
    if not isinstance(rows, Ragged):
        return (slice(start, start + batch) for start in range(0, len(rows), batch))
    order = length_order(rows.lengths).order
    return _batches_by_length(order, rows.lengths[order], batch)


def _batches_by_length(order: NDArray[np.int64], lengths: NDArray[np.int64], batch: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each batch: at most `batch`, and at most `MOST_TOKENS` once they are padded to the first."""
    start = 0
    while start < len(order):
        count = min(batch, max(1, MOST_TOKENS // max(1, int(lengths[start]))))
        yield order[start : start + count]
        start += count


def score(net: Net, split: Split, device: Device) -> float:
    """Measure a network on a split by its main metric, in points."""
    raw = predict(net, split.rows, net.input, device)
    return net.output.score(raw.numpy(), split.labels).value


def score_rows(
    output: Output, raw: NDArray[np.float32], labels: Labels, name: str, of: str = "images"
) -> tuple[Measurement, ...]:
    """Return the rows of a report on the outputs `(N, C)` of a split: `METRIC/NAME`, the main metric first."""
    return tuple(Measurement.from_score(name, each) for each in output.scores(raw, labels, of))
