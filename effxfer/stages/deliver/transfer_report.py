"""Report what compression costs where a model transfers: its worst class, another domain, and new classes.

The mean over known classes hides who pays: compressed networks lose most on few classes and on rare examples (Hooker et
al., 2019, https://arxiv.org/abs/1911.05248).
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

from effxfer.artifact import Artifact
from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError
from effxfer.report import Curve, Report, Table
from effxfer.stages.deliver.report_candidates import Candidate, candidates_of
from effxfer.stages.deliver.task_drops import compare_accuracies, compare_tasks
from effxfer.stages.deliver.transfer_measures import Measured, Measures
from effxfer.stages.settings.transfer_report_settings import TransferReport

TITLE = "What compression costs"
TASKS_TITLE = "Main metric of each task, %"
Rows = Mapping[str, Sequence[Measured]]


def transfer_report(
    models: Mapping[str, Artifact], settings: TransferReport, data: Sequence[DataSettings] = ()
) -> Report:  # fmt: skip
    """Compare models on the test split, its worst class, and the target: another domain or new classes.

    Args:
        models: Model directories by name; the first one is the baseline. Of a directory with exported files, these are
            examined, float32 and int8, otherwise its network.
        settings: Level of the intervals and seed of the episodes.
        data: Data with the classes of the models, and a target; or the tasks that they learned one after another, or
            the tables of their tasks. Empty for those of each model's last stage.

    Returns:
        For each model `accuracy/test/NAME`, `worst class/test/NAME` and `accuracy/target/NAME`, or for a target of new
        classes `accuracy/target/NAME 5-way 1-shot`; differences from the baseline `.../drop`; a table and a plot. Of a
        network of several tasks `accuracy/test/TASK/NAME` and so on, a table and plots for each task. Labels of another
        kind have their main metric in place of the accuracy, and no worst class.

    Raises:
        SettingsError: If a model has other classes than the data, or other tasks than the first one.
        GateError: If a model loses more than `max_drop` on one of several tasks (E605).
    """
    candidates = [candidate for name, model in models.items() for candidate in candidates_of(name, model, data)]
    for candidate in candidates:
        _require_same_tasks(candidate, candidates[0])
    measures = Measures(NormalDist().inv_cdf((1 + settings.level) / 2), settings.seed)
    rows = {each.name: [*measures.test(each), *measures.target(each)] for each in candidates}
    tasks = list(candidates[0].outputs)
    report = Report(
        rows=tuple(one.row for each in rows.values() for one in each), notes=_notes(candidates[0], settings)
    )
    for task in tasks:
        of_task = {name: [one for one in each if one.task == task] for name, each in rows.items()}
        title = f"{TITLE}: {task}" if task else TITLE
        report += Report(tables=(_table(title, candidates, of_task),), curves=_curves(title, candidates, of_task))
    if len(tasks) > 1 and len(candidates[0].task.test):
        report += compare_accuracies(_scores(rows), settings.max_drop, title=TASKS_TITLE)
    if len(candidates[0].parts) > 1:
        report += compare_tasks({c.name: (c.logits, c.net.output, c.parts) for c in candidates}, settings.max_drop)
    return report


def _require_same_tasks(candidate: Candidate, first: Candidate) -> None:
    """Refuse a model of other tasks than the first one.

    Raises:
        SettingsError: If it is.
    """
    if list(candidate.outputs) != list(first.outputs):
        tasks, expected = (", ".join(name or "a single one" for name in each.outputs) for each in (candidate, first))
        problem = f"{candidate.name} has other tasks than {first.name}: {tasks}, not {expected}"
        raise SettingsError(problem, "compare models of the same tasks")


def _notes(first: Candidate, settings: TransferReport) -> tuple[str, ...]:
    scale = f"intervals are of the examples, at a level of {settings.level:g}; drops are paired with the first model"
    notes = (*first.task.notes, scale)
    # Several tasks, and kinds of label other than one class for each example, have no target.
    if first.task.target is None and [output.kind for output in first.outputs.values()] == ["single"]:
        notes += ("the data have no target: give another domain, or new classes, as data.target",)
    return notes


def _scores(rows: Rows) -> dict[str, dict[str, float]]:
    """Return the main metric on the test split of each model and task."""
    return {
        name: {one.task: one.row.value for one in each if one.metric.endswith("/test") and "worst" not in one.metric}
        for name, each in rows.items()
    }


def _table(title: str, candidates: Sequence[Candidate], rows: Rows) -> Table:
    lines = [
        {"model": candidate.name, "MB": round(candidate.megabytes, 3), **_cells(rows[candidate.name])}
        for candidate in candidates
    ]
    # A table has equal columns in every row; the first model has no drop.
    columns = dict.fromkeys(column for line in lines for column in line)
    return Table(title=title, rows=tuple({column: line.get(column, "") for column in columns} for line in lines))


def _cells(rows: Sequence[Measured]) -> dict[str, Any]:
    cells = dict[str, Any]()
    for _, metric, row in rows:
        mark = "" if metric.endswith("drop") else " %"
        interval = f" [{row.low:.2f}, {row.high:.2f}]" if row.low != row.high else ""
        cells[f"{metric.removeprefix('accuracy/')}{mark}"] = f"{row.value:.2f}{interval}"
        if metric.startswith("worst class"):
            cells["worst class"] = row.of.rpartition(" of ")[2]
    return cells


def _curves(title: str, candidates: Sequence[Candidate], rows: Rows) -> tuple[Curve, ...]:
    """Plot every share or score over the size of the file, each point by the name of its model."""
    points = dict[str, list[tuple[float, float, str]]]()
    for candidate in candidates:
        for _, metric, row in rows[candidate.name]:
            if row.unit == "%":
                points.setdefault(metric, []).append((candidate.megabytes, row.value, candidate.name))
    return tuple(
        Curve(
            title=title, name=metric, x="size, MB", y=_axis(metric), line=False,
            points=tuple((size, share) for size, share, _ in sorted(each)),
            labels=tuple(name for _, _, name in sorted(each)),
        )
        for metric, each in points.items()
    )  # fmt: skip


def _axis(metric: str) -> str:
    name = metric.partition("/")[0]
    return "share that is right, %" if name in ("accuracy", "worst class") else f"{name}, %"
