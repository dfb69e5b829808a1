"""What a head search maximises: the main metric of the kind of label, or another one of single labels.

Shape legend: N examples, C columns of the head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.errors import SettingsError
from effxfer.runtime.outputs.base import Labels, Output
from effxfer.runtime.outputs.single_label import SingleLabel, macro_f1, recalls

SINGLE_LABEL_METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
RowScore = Callable[[NDArray[np.int64]], float]


def metric_of(output: Output, metric: str | None) -> str:
    """Return the metric to maximise: the one of the settings, or the main metric of the kind of label.

    Raises:
        SettingsError: If the kind of label has no such metric.
    """
    able = metrics_for(output)
    if metric is None or metric in able:
        return metric or output.metric
    problem = f"metric = {metric!r} is not for labels of kind {output.kind!r}"
    raise SettingsError(problem, f"leave it out, or give {' or '.join(able)}")


def metrics_for(output: Output) -> tuple[str, ...]:
    """Return the metrics that a kind of label has, of which a search maximises one."""
    return SINGLE_LABEL_METRICS if isinstance(output, SingleLabel) else (output.metric,)


def measure(output: Output, raw: NDArray[np.float32], labels: Labels, metric: str | None = None) -> float:
    """Measure the outputs of a head.

    Args:
        output: Kind of the labels.
        raw: Outputs `(N, C)`.
        labels: Labels of the N examples.
        metric: One that `metric_of` returns; None is the main metric.

    Returns:
        The metric divided by 100: at most 1, of single labels at least 0. `balanced_accuracy` is the mean recall of the
        classes that occur, `macro_f1` the mean F1 of the classes that occur or are predicted.
    """
    return _score(output, _prepare(output, raw), labels, metric)


def row_score(output: Output, raw: NDArray[np.float32], labels: Labels, metric: str | None = None) -> RowScore:
    """Return a function that measures some of the examples, given as indices; arguments as in `measure`."""
    prepared = _prepare(output, raw)
    return lambda rows: _score(output, prepared[rows], labels[rows], metric)


def _prepare(output: Output, raw: NDArray[np.float32]) -> NDArray[Any]:
    """Reduce outputs to what is compared with labels: the classes of single labels, which are drawn many times."""
    return output.decide(raw) if isinstance(output, SingleLabel) else raw


def _score(output: Output, prepared: NDArray[Any], labels: Labels, metric: str | None) -> float:
    if not isinstance(output, SingleLabel):
        return output.score(prepared, labels).value / 100
    if metric == "balanced_accuracy":
        return float(recalls(prepared, labels).mean())
    # float32, as the journals of earlier searches have it.
    return macro_f1(prepared, labels) if metric == "macro_f1" else float((prepared == labels).mean(dtype=np.float32))
