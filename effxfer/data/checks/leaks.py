"""Check across splits: equal images in two of them, contradicting labels, absent or rare classes."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from effxfer.data.listing import SHOWN, SPLITS, Finding, Item, Severity, first_names
from effxfer.data.settings import DataSettings

IMBALANCE = 10  # from this ratio of class sizes on, plain accuracy hides errors on rare classes
LEAK_HINT = "remove one of each pair, or pass `data.allow_leakage=true` and expect figures that are too good"


def find_leaks(items: Sequence[Item], key: Mapping[str, str], relation: str, severity: Severity) -> list[Finding]:
    """List each image whose key also occurs in an earlier split, in the order train, val, test (E320).

    Args:
        items: Images with their final split; those without a key are skipped.
        key: Digest of the content by path.
        relation: Relation of equal images for the text, e.g. `same file`.
        severity: Severity of the findings.
    """
    findings: list[Finding] = []
    first: dict[str, Item] = {}
    # In this order the held-out image is named, not the one that is trained on.
    for item in sorted((i for i in items if i.path in key), key=lambda i: SPLITS.index(i.split)):
        earlier = first.setdefault(key[item.path], item)
        if earlier.split != item.split:
            group = f"{relation} in {earlier.split} and {item.split}"
            text = f"{relation} as {earlier.path}: in {earlier.split} and {item.split}"
            leak = Finding(code="E320", severity=severity, path=item.path, text=text, hint=LEAK_HINT, group=group)
            findings.append(leak)
    return findings


def find_contradictions(items: Sequence[Item], describe: Callable[[str], str] = str) -> list[Finding]:
    """List contents with two labels (W336); no model can learn both.

    Args:
        items: The images.
        describe: Writes the label of an item as a person does.
    """
    labels = defaultdict(set)
    for item in items:
        labels[item.sha256].add(item.label)
    both = {content: _join_labels(sorted(map(describe, names))) for content, names in labels.items() if len(names) > 1}
    text = "the same content has two labels"
    return [
        Finding(code="W336", severity="warning", path=i.path, text=f"{text}: {both[i.sha256]}", group=text)
        for i in items
        if i.sha256 in both
    ]


def _join_labels(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < SHOWN else first_names(names)  # one content may have thousands of labels


def find_class_gaps(items: Sequence[Item], settings: DataSettings, unit: str = "image") -> list[Finding]:
    """Compare the classes of the source's splits (E321).

    A class that is missing in train is an error; so is one missing in val or test, unless `allow_empty`. Missing
    training images are an error for every kind of label (E310).

    Args:
        items: Items with the source's own splits.
        settings: `allow_empty` and `labels` are used.
        unit: What an item is, in the singular.
    """
    classes = {split: {item.label for item in items if item.split == split} for split in SPLITS}
    if not classes["train"] and (classes["val"] or classes["test"]):
        text = f"val or test {unit}s, but no training {unit}s"
        place = "folder" if unit == "image" else "file"
        hint = f"add a train {place}, or rows with split train"
        return [Finding(code="E310", severity="error", path="", text=text, hint=hint)]
    if settings.labels != "single":
        return []
    return [
        gap for split in ("val", "test") if classes[split] for gap in _gaps(split, classes, settings.allow_empty, unit)
    ]


def find_imbalance(items: Sequence[Item], unit: str = "image") -> list[Finding]:
    """Warn if the largest class has at least ten times the training images of the smallest (W341)."""
    sizes = Counter(item.label for item in items if item.split == "train")
    if not sizes or max(sizes.values()) < IMBALANCE * min(sizes.values()):
        return []
    (large, large_count), (small, small_count) = sizes.most_common(1)[0], sizes.most_common()[-1]
    text = f"{large_count} training {unit}s of {large!r} against {small_count} of {small!r}: read the balanced accuracy"
    hint = f"show rare classes more often with options.balance=1, or collect more {unit}s of them"
    return [Finding(code="W341", severity="warning", path="", text=f"{text}; {hint}", hint=hint)]


def _gaps(split: str, classes: Mapping[str, set[str]], allow_empty: bool, unit: str) -> list[Finding]:
    unknown, missing = classes[split] - classes["train"], classes["train"] - classes[split]
    findings = []
    if unknown:
        text, hint = (
            f"classes in {split} that train lacks: {_quote_labels(unknown)}",
            "give all splits the same class names",
        )
        findings.append(Finding(code="E321", severity="error", path="", text=text, hint=hint))
    if missing:
        text, hint = (
            f"classes in train that {split} lacks: {_quote_labels(missing)}",
            f"add {unit}s, or set allow_empty",
        )
        severity: Severity = "note" if allow_empty else "error"
        findings.append(Finding(code="E321", severity=severity, path="", text=text, hint=hint))
    return findings


def _quote_labels(labels: set[str]) -> str:
    shown = ", ".join(map(repr, sorted(labels)[:10]))
    return f"{shown} and {len(labels) - 10} more" if len(labels) > 10 else shown
