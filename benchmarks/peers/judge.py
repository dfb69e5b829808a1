"""Judge files alike: accuracy by ONNX Runtime on the same images, latency in turns, bytes on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.case import Case
from effxfer.benchmark.protocol.latency import compare, onnx_runner
from effxfer.runtime.inputs import Input
from effxfer.runtime.session import open_session

BATCH = 64  # images of a call while accuracy is measured


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file to judge.

    Attributes:
        file: ONNX file with one input, normalised images.
        input: How images are resized and normalised for it; a tool may have chosen another side.
        seconds: What training and pruning took.
    """

    file: Path
    input: Input
    seconds: float


def judge(entries: Mapping[str, Entry], case: Case, baseline: str) -> list[dict[str, Any]]:
    """Measure all files; one row for each, the fastest first."""
    runners = {name: onnx_runner(entry.file, first_image(entry, case), 1) for name, entry in entries.items()}
    # Chosen: longer for more files, so that each gets some ten seconds.
    timings = compare(runners, baseline=baseline, threads=1, min_seconds=10, max_seconds=10.0 + 10 * len(entries))
    rows = []
    for timing in sorted(timings, key=lambda row: row.ratio):
        entry = entries[timing.name]
        rows.append({
            "model": timing.name, **accuracies(entry, case),
            "p50 ratio": f"{timing.ratio:.3f} [{timing.ratio_low:.3f}, {timing.ratio_high:.3f}]",
            "p50 ms": timing.p50, "MB": entry.file.stat().st_size / 1e6, "seconds": round(entry.seconds),
        })  # fmt: skip
    return rows


def accuracies(entry: Entry, case: Case) -> dict[str, float]:
    """Return the accuracy on the validation and test images in percent, by the name of its column."""
    task = case.task.with_input(entry.input)
    splits = {f"{name} %": split for name, split in task.reported_splits.items()}
    return {name: accuracy(entry, split.rows, split.labels) for name, split in splits.items()}


def accuracy(entry: Entry, rows: Any, labels: NDArray[np.int64]) -> float:
    """Return the accuracy of a file on decoded images `(N, S, S, 3)` in percent."""
    session = open_session(entry.file)
    name, right = session.get_inputs()[0].name, 0
    for start in range(0, len(labels), BATCH):
        feed = entry.input.feed(rows[start : start + BATCH])
        right += int((session.run(None, {name: feed})[0].argmax(1) == labels[start : start + BATCH]).sum())
    return 100 * right / len(labels)


def first_image(entry: Entry, case: Case) -> dict[str, NDArray[np.float32]]:
    """Return a validation image as the file takes it, by the name of its input."""
    name = open_session(entry.file).get_inputs()[0].name
    return {name: entry.input.feed(case.task.with_input(entry.input).val.rows[:1])}
