"""Check the labels of several tasks across splits: each task by itself, on the examples that have its label."""

from collections import Counter
from collections.abc import Mapping, Sequence

from effxfer.data.checks.coverage import check_coverage
from effxfer.data.checks.tag_coverage import find_tag_gaps, read_tags
from effxfer.data.labels.cells import NUMBER
from effxfer.data.labels.tasks import classes_of, split_texts
from effxfer.data.listing import SPLITS, Finding, Item, LabelKind, Severity, first_names

# Chosen: a grade from 1 to 10, or a class number of ImageNet's size in a table of numbers, is told by its few values.
FEW_NUMBERS = 12
OFTEN = 5  # a class has on average at least as many examples; numbers that were measured repeat less


def check_tasks(
    items: Sequence[Item], kinds: Mapping[str, LabelKind], classes: tuple[str, ...], unit: str = "image"
) -> list[Finding]:
    """Check every task.

    * A task without a label in train or val (E348), which could not be learned, or not be measured.
    * A task of single labels with one class in train (E312); classes that a split lacks (W313).
    * Numbers that look like classes, or classes that look like numbers (W343).
    * Several labels and values as `check_coverage` does, tags as `find_tag_gaps` does; one tag in train (E312).

    Args:
        items: Examples with their final split.
        kinds: Kind of label of each task.
        classes: Names of the columns of all tasks.
        unit: What an item is, in the singular.
    """
    columns = split_texts([item.label for item in items], len(kinds))
    findings = list[Finding]()
    for (name, kind), texts in zip(kinds.items(), columns, strict=True):
        labelled = [item._replace(label=text) for item, text in zip(items, texts, strict=True) if text]
        absent = _find_absent(name, labelled, unit) if items else []
        findings += absent or _check_task(name, kind, labelled, classes_of(name, classes), unit)
    return findings


def _find_absent(name: str, items: Sequence[Item], unit: str) -> list[Finding]:
    counts = Counter(item.split for item in items)
    missing = [split for split in ("train", "val") if not counts[split]]
    if not missing:
        return []
    text = f"task {name!r} has no label in {' and '.join(missing)}"
    hint = f"label {unit}s of every split for it, or leave the task out"
    return [_finding("E348", text, hint, "error")]


def _check_task(
    name: str, kind: LabelKind, items: Sequence[Item], classes: tuple[str, ...], unit: str
) -> list[Finding]:
    if kind != "single":
        problems = find_tag_gaps(items) if kind == "tags" else check_coverage(items, kind, classes, unit)
        findings = [Finding(**{**vars(f), "text": f"task {name!r}: {f.text}"}) for f in problems]
        if kind == "tags" and len(tags := read_tags(items, "train")) < 2:
            text = f"task {name!r} has one tag in train: {first_names(sorted(tags))}"
            findings = [_finding("E312", text, "tag words of another kind, or leave the task out", "error")]
        return findings + (_find_numbered_classes(name, items) if kind == "value" else [])
    present = {split: {item.label for item in items if item.split == split} for split in SPLITS}
    if len(present["train"]) < 2:
        text = f"task {name!r} has one class in train: {first_names(sorted(present['train']))}"
        return [_finding("E312", text, "label examples of another class, or leave the task out", "error")]
    unlearned = sorted((present["val"] | present["test"]) - present["train"])
    if unlearned:
        text = f"task {name!r} has classes that train lacks: {first_names(unlearned)}"
        measured = _find_measured_classes(name, items)
        hint = measured[0].hint if measured else "label training examples of them, or remove their labels"
        return [_finding("E321", text, hint, "error")]
    gaps = [
        _finding("W313", f"task {name!r} has classes that {split} lacks: {first_names(sorted(lacking))}")
        for split in ("val", "test")
        if present[split] and (lacking := present["train"] - present[split])
    ]
    return gaps + _find_measured_classes(name, items)


def _find_numbered_classes(name: str, items: Sequence[Item]) -> list[Finding]:
    """Warn about values that are few whole numbers, each many times: perhaps numbers of classes."""
    numbers = {float(item.label) for item in items}
    if len(numbers) > FEW_NUMBERS or len(items) < OFTEN * len(numbers) or not all(n.is_integer() for n in numbers):
        return []
    text = f"task {name!r} takes {len(numbers)} whole numbers: if they stand for classes, its kind is single"
    return [_finding("W343", text, f"set labels.{name} = 'single'")]


def _find_measured_classes(name: str, items: Sequence[Item]) -> list[Finding]:
    """Warn about classes that are many numbers, each few times: perhaps measured values."""
    labels = {item.label for item in items}
    if len(labels) <= FEW_NUMBERS or len(items) >= OFTEN * len(labels) or not all(map(NUMBER.fullmatch, labels)):
        return []
    text = f"task {name!r} has {len(labels)} classes, all of them numbers: if they were measured, its kind is value"
    return [_finding("W343", text, f"set labels.{name} = 'value'")]


def _finding(code: str, text: str, hint: str = "", severity: Severity = "warning") -> Finding:
    return Finding(code=code, severity=severity, path="", text=text, hint=hint)
