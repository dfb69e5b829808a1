"""Prune the vocabulary of a network that reads texts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.prune.vocabulary.vocabulary import check_vocabulary, prune_vocabulary, used_tokens
from effxfer.report import Measurement, Report
from effxfer.runtime.rows import Ragged
from effxfer.stages.settings.prune_settings import Vocabulary
from effxfer.stages.train.finetune import accuracy_report
from effxfer.stages.train.head import choose_thresholds
from effxfer.train.devices import Device
from effxfer.train.state import Work


def vocabulary(
    net: Net,
    tasks: Sequence[Task],
    settings: Vocabulary,
    *,
    device: Device,
    work: Work,  # noqa: ARG001
) -> tuple[Net, Report]:
    """Keep the tokens of the training texts of all tasks, and evaluate the smaller network; no training.

    Args:
        net: Network, changed in place; with or without a head.
        tasks: The last one is evaluated, if the network has a head for it.
        settings: How often a token must occur.
        device: Device of the evaluation.
        work: Unused: the stage takes seconds, and is repeated after a kill.

    Raises:
        SettingsError: If there are no training texts, or no token stays.
        DataError: If the texts cannot be read again.
    """
    net.to(device.torch)
    task, before = tasks[-1], _parameters(net)
    scores = accuracy_report(net, task, device).rows if _is_trained(net, task) else ()
    report = Report(rows=tuple(replace(row, name=f"{row.name}/before") for row in scores))
    used = used_tokens([each.train.rows for each in tasks], settings.min_count)
    if not len(used):
        raise SettingsError(f"no token occurs {settings.min_count} times in the training texts", "set min_count = 1")
    former = check_vocabulary(net)[1].embeddings.tokens.num_embeddings
    ids = prune_vocabulary(net, used.tolist())
    report += _size_report(former, len(ids), before, _parameters(net)) + _coverage(task, ids)
    # Texts with a token that left are written with others.
    task = task.with_input(net.input)
    if _is_trained(net, task):
        choose_thresholds(net, task, device)
        report = accuracy_report(net, task, device) + report
    return net, report


def _is_trained(net: Net, task: Task) -> bool:
    return bool(net.classes) and net.classes == task.classes


def _parameters(net: Net) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _size_report(former: int, remaining: int, before: int, after: int) -> Report:
    return Report(
        rows=(
            Measurement(name="tokens/kept", value=100 * remaining / former, unit="%", of="tokens", n=former),
            Measurement(name="parameters/before", value=before / 1e6, unit="M"),
            Measurement(name="parameters/after", value=after / 1e6, unit="M"),
        )
    )


def _coverage(task: Task, ids: NDArray[np.int64]) -> Report:
    """Report the texts of each split that are encoded as before, because all of their tokens stay."""
    splits = task.reported_splits.items()
    return Report(rows=tuple(_coverage_row(f"covered/{name}", split.rows, ids) for name, split in splits))


def _coverage_row(name: str, rows: Ragged, ids: NDArray[np.int64]) -> Measurement:
    removed = ~np.isin(rows.values, ids)
    touched = np.unique(np.searchsorted(rows.ends, np.flatnonzero(removed), side="right"))
    share = 100 * (1 - len(touched) / len(rows))
    return Measurement(name=name, value=share, unit="%", of="texts", n=len(rows))
