"""Report what compression costs where a model transfers: its worst class, another domain, and new classes.

The mean over known classes hides who pays: compressed networks lose most on few classes and on rare examples (Hooker et
al., 2019, https://arxiv.org/abs/1911.05248).

Shape legend: N examples, C classes, D features.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from effxfer.artifact import Artifact
from effxfer.data.loader import Loader
from effxfer.data.settings import DataSettings
from effxfer.data.target import concat_splits, is_new
from effxfer.data.task import Split, Task
from effxfer.deploy.decisions.wilson import wilson
from effxfer.deploy.graph.head_features import head_features
from effxfer.errors import SettingsError
from effxfer.net.heads.prototypes import Prototypes
from effxfer.net.net import Net
from effxfer.report import Curve, Measurement, Report, Table
from effxfer.runtime.model import Model
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.rows import Rows
from effxfer.stages.data.split_history import history_of
from effxfer.stages.deliver.task_drops import compare_tasks
from effxfer.stages.runner.tasks import data_for
from effxfer.stages.settings.common import FILES
from effxfer.stages.settings.transfer_report_settings import TransferReport
from effxfer.stages.train.continual.stream import align_task, join_tasks
from effxfer.stages.train.target_domain import compared_features, comparison_of
from effxfer.stages.train.zero_shot.report import (
    compares_classes,
    evaluate_file_on_new_classes,
    evaluate_new_classes,
)
from effxfer.train.devices import pick_device
from effxfer.train.episodes import measure_few_shot
from effxfer.train.evaluate import predict

TITLE = "What compression costs"
Logits = NDArray[np.float32]
Correct = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A model to examine: an exported file, or a network that was not exported.

    Attributes:
        name: Name in the report.
        net: The network; of a file, the one it was exported from.
        task: The data as the network reads them.
        file: The exported file; None for the network itself.
        megabytes: Size of the file, or of float32 weights.
        parts: The tasks that make up the data, where a network learned them one after another.
    """

    name: str
    net: Net
    task: Task
    file: Path | None
    megabytes: float
    parts: tuple[Task, ...] = ()

    def logits(self, rows: Rows) -> Logits:
        """Compute logits `(N, C)`."""
        if self.file is not None:
            return Model(self.file).logits(rows)
        logits: Logits = predict(self.net, rows, self.net.input, pick_device("cpu")).numpy()
        return logits

    def on_class_embeddings(self) -> Report:
        """Measure new classes that are known by their embeddings alone."""
        if self.file is None:
            return evaluate_new_classes(self.net, self.task, pick_device("cpu"))
        return evaluate_file_on_new_classes(Model(self.file), self.task, self.net)

    def features(self, split: Split) -> torch.Tensor:
        """Compute what new classes are distinguished by, `(N, D)`."""
        if self.file is None:
            return compared_features(self.net, split, pick_device("cpu"))
        model = Model(self.file)
        if model.takes_prototypes:
            return torch.from_numpy(model.features_of(split.rows))
        return torch.from_numpy(head_features(self.file, split.rows))


def transfer_report(
    models: Mapping[str, Artifact], settings: TransferReport, data: Sequence[DataSettings] = ()
) -> Report:  # fmt: skip
    """Compare models on the test split, its worst class, and the target: another domain or new classes.

    Args:
        models: Model directories by name; the first one is the baseline. Of a directory with exported files, these are
            examined, float32 and int8, otherwise its network.
        settings: Level of the intervals and seed of the episodes.
        data: Data with the classes of the models, and a target; or the tasks that they learned one after another. Empty
            for those of each model's last stage.

    Returns:
        For each model `accuracy/test/NAME`, `worst class/test/NAME` and `accuracy/target/NAME`, or for a target of new
        classes `accuracy/target/NAME 5-way 1-shot`; differences from the baseline `.../drop`; a table and a plot.

    Raises:
        SettingsError: If a model has no classes, or others than the first candidate.
        GateError: If a model loses more than `max_drop` on one of several tasks (E605).
    """
    candidates = [candidate for name, model in models.items() for candidate in _candidates(name, model, data)]
    for candidate in candidates:
        if not isinstance(candidate.net.output, SingleLabel):
            raise SettingsError(f"{candidate.name} has no single label for each example", "compare classifiers")
        if candidate.net.output.classes != candidate.task.classes:
            names = ", ".join(candidate.net.output.classes)
            raise SettingsError(
                f"{candidate.name} has other classes than the data: {names}", "give data of its classes"
            )
    z = NormalDist().inv_cdf((1 + settings.level) / 2)
    rows = dict[str, list[Measurement]]()
    before: dict[str, Correct] = {}
    for candidate in candidates:
        rows[candidate.name] = [
            *_measure_test(candidate, before, z),
            *_measure_target(candidate, before, z, settings.seed),
        ]
    target = candidates[0].task.target
    scale = f"intervals are of the examples, at a level of {settings.level:g}; drops are paired with the first model"
    notes = (*candidates[0].task.notes, scale)
    if target is None:
        notes += ("the data have no target: give another domain, or new classes, as data.target",)
    report = Report(rows=tuple(row for each in rows.values() for row in each), notes=notes)
    report += Report(tables=(_table(candidates, rows),), curves=_curves(candidates, rows))
    if len(candidates[0].parts) > 1:
        report += compare_tasks({c.name: (c.logits, c.net.output, c.parts) for c in candidates}, settings.max_drop)
    return report


def _candidates(name: str, model: Artifact, data: Sequence[DataSettings]) -> Iterator[Candidate]:
    settings = data or data_for(model, {})
    net, history = model.net(), history_of(model, TransferReport())
    tasks = [Loader(settings=each, history=history).load(net.input) for each in settings]
    parts = tuple(align_task(each, net.classes) for each in tasks if set(each.classes) <= set(net.classes))
    in_time = len(tasks) == len(parts) > 1
    task = join_tasks(parts, training=False) if in_time else tasks[-1]
    parts = parts if in_time else ()
    files = {key: model.path / file for key, file in FILES.items() if file in model.manifest.files}
    for precision, file in files.items():
        yield Candidate(
            name=f"{name} {precision}", net=net, task=task, file=file, megabytes=file.stat().st_size / 1e6, parts=parts
        )  # fmt: skip
    if not files:
        weights = sum(weight.numel() for weight in net.parameters()) * 4 / 1e6
        yield Candidate(name=name, net=net, task=task, file=None, megabytes=weights, parts=parts)


def _measure_test(candidate: Candidate, before: dict[str, Correct], z: float) -> Iterator[Measurement]:
    """Measure the test split and its worst class."""
    test, output = candidate.task.test, candidate.net.output
    if not len(test):
        return
    assert isinstance(output, SingleLabel)
    correct = output.correct(candidate.logits(test.rows), test.labels)
    yield from _measure_share("accuracy/test", candidate.name, correct, before, z, candidate.net.input.unit)
    if len(candidate.task.classes) > 1:
        counts = np.bincount(test.labels, minlength=len(candidate.task.classes))
        hits = np.bincount(test.labels[correct], minlength=len(counts))
        present = np.flatnonzero(counts)
        worst = int(present[np.argmin(hits[present] / counts[present])])
        low, high = wilson(int(hits[worst]), int(counts[worst]), z)
        yield Measurement(
            name=f"worst class/test/{candidate.name}", value=100 * float(hits[worst] / counts[worst]), unit="%",
            low=low, high=high, n=int(counts[worst]),
            of=f"{candidate.net.input.unit} of {candidate.task.classes[worst]}",
        )  # fmt: skip


def _measure_target(candidate: Candidate, before: dict[str, Correct], z: float, seed: int) -> Iterator[Measurement]:
    """Measure the target: another domain, new classes by their embeddings, or new classes by episodes."""
    target, output = candidate.task.target, candidate.net.output
    if target is None:
        return
    if is_new(candidate.task) and compares_classes(candidate.net, candidate.task):
        yield from (replace(row, name=f"{row.name}/{candidate.name}") for row in candidate.on_class_embeddings().rows)
    elif is_new(candidate.task):
        split = concat_splits(target)
        # A head of prototypes compares in its own way; others by the cosine, which needs no training either.
        near = comparison_of(candidate.net) if isinstance(candidate.net.head, Prototypes) else _cosine
        yield from measure_few_shot(
            candidate.features(split), split.labels, near, f"accuracy/target/{candidate.name}", seed
        ).rows
    elif len(target.test):
        assert isinstance(output, SingleLabel)
        correct = output.correct(candidate.logits(target.test.rows), target.test.labels)
        yield from _measure_share("accuracy/target", candidate.name, correct, before, z, candidate.net.input.unit)


def _cosine(features: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features, dim=1) @ torch.nn.functional.normalize(prototypes, dim=1).T


def _measure_share(
    metric: str, name: str, correct: Correct, before: dict[str, Correct], z: float, unit: str
) -> Iterator[Measurement]:  # fmt: skip
    """Measure a share of examples, and its loss against the first model on the same examples."""
    hits, count = int(correct.sum()), len(correct)
    low, high = wilson(hits, count, z)
    yield Measurement(name=f"{metric}/{name}", value=100 * hits / count, unit="%", low=low, high=high, n=count, of=unit)
    first = before.setdefault(metric, correct)
    if first is correct:
        return
    # Only examples on which exactly one is right count: McNemar's variance.
    losses, wins = int((first & ~correct).sum()), int((~first & correct).sum())
    drop, half = 100 * (losses - wins) / count, 100 * z * sqrt(losses + wins - (losses - wins) ** 2 / count) / count
    yield Measurement(
        name=f"{metric}/{name}/drop", value=drop, unit="points", low=drop - half, high=drop + half, n=count, of=unit
    )  # fmt: skip


def _table(candidates: list[Candidate], rows: Mapping[str, list[Measurement]]) -> Table:
    lines = [
        {"model": candidate.name, "MB": round(candidate.megabytes, 3), **_cells(candidate, rows[candidate.name])}
        for candidate in candidates
    ]
    # A table has equal columns in every row; the first model has no drop.
    columns = dict.fromkeys(column for line in lines for column in line)
    return Table(title=TITLE, rows=tuple({column: line.get(column, "") for column in columns} for line in lines))


def _cells(candidate: Candidate, rows: list[Measurement]) -> dict[str, Any]:
    cells = dict[str, Any]()
    for row in rows:
        metric = row.name.replace(f"/{candidate.name}", "").replace("accuracy/", "")
        mark = "" if metric.endswith("drop") else " %"
        cells[f"{metric}{mark}"] = f"{row.value:.2f} [{row.low:.2f}, {row.high:.2f}]"
        if metric.startswith("worst class"):
            cells["worst class"] = row.of.rpartition(" of ")[2]
    return cells


def _curves(candidates: list[Candidate], rows: Mapping[str, list[Measurement]]) -> tuple[Curve, ...]:
    """Plot every share over the size of the file, each point by the name of its model."""
    points = dict[str, list[tuple[float, float, str]]]()
    for candidate in candidates:
        for row in rows[candidate.name]:
            if row.unit == "%":
                metric = row.name.replace(f"/{candidate.name}", "")
                points.setdefault(metric, []).append((candidate.megabytes, row.value, candidate.name))
    return tuple(
        Curve(
            title=TITLE, name=metric, x="size, MB", y="share that is right, %", line=False,
            points=tuple((size, share) for size, share, _ in sorted(each)),
            labels=tuple(name for _, _, name in sorted(each)),
        )
        for metric, each in points.items()
    )  # fmt: skip
