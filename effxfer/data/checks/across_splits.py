"""Check items across the splits that they have in the end: contradictions, rare labels, and leaks."""

from collections.abc import Sequence
from functools import partial

from effxfer.data.checks.coverage import check_coverage
from effxfer.data.checks.leaks import find_contradictions, find_imbalance, find_leaks
from effxfer.data.checks.task_coverage import check_tasks
from effxfer.data.history import History, find_leaks_between_tables, find_trained_before
from effxfer.data.labels.arrays import describe_label
from effxfer.data.listing import Finding, Item, Severity
from effxfer.data.settings import DataSettings


def check_items(
    items: Sequence[Item], settings: DataSettings, classes: tuple[str, ...], history: History, relation: str,
    unit: str = "image",
) -> list[Finding]:  # fmt: skip
    """Check the items in use.

    Args:
        items: With their final split.
        settings: `labels` and `allow_leakage` are used.
        classes: Names of the head's columns.
        history: Splits of the network's earlier stages.
        relation: What equal items are, such as `same file`.
        unit: What an item is, in the singular.
    """
    kind = settings.labels
    if kind == "tasks":
        coverage = check_tasks(items, settings.tasks, classes, unit)
    else:
        coverage = find_imbalance(items, unit) if kind == "single" else check_coverage(items, kind, classes, unit)
    severity: Severity = "warning" if settings.allow_leakage else "error"
    return [
        *(() if kind == "none" else find_contradictions(items, partial(describe_label, kind, classes=classes))),
        *coverage,
        *find_leaks(items, {i.path: i.sha256 for i in items}, relation, severity),
        *find_trained_before(items, history, severity),
        *find_leaks_between_tables(items, history, severity),
    ]


def find_single_class(
    classes: Sequence[str], findings: Sequence[Finding] = (), hint: str = "put each class into a folder of its own"
) -> list[Finding]:
    """Refuse a single class (E312), unless `findings` say so already."""
    if len(classes) != 1 or any(finding.code == "E312" for finding in findings):
        return []
    text = f"need >= 2 classes, found only {classes[0]!r}"
    return [Finding(code="E312", severity="error", path="", text=text, hint=hint)]
