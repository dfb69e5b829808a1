"""Checks across splits: the same image in two of them, contradicting labels, classes that are absent or rare."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from effxfer.data.listing import SHOWN, SPLITS, Finding, Item, Severity, some
from effxfer.data.settings import DataSettings

LOPSIDED = 10  # from this ratio of classes on, accuracy alone hides what becomes of the rare ones
LEAK_HINT = "remove one of each pair, or pass `data.allow_leakage=true` and expect figures that are too good"


def leaks(items: Sequence[Item], key: Mapping[str, str], what: str, severity: Severity) -> list[Finding]:
    """List each image whose key also occurs in an earlier split, train before val before test (E320).

    Args:
        items: Images with their final split; those without a key are left out.
        key: By path, a digest of the content.
        what: How equal images are called, e.g. `same file`.
        severity: Of the findings.
    """
    findings: list[Finding] = []
    first: dict[str, Item] = {}
    for item in sorted((i for i in items if i.path in key), key=lambda i: SPLITS.index(i.split)):
        earlier = first.setdefault(key[item.path], item)
        if earlier.split != item.split:
            group = f"{what} in {earlier.split} and {item.split}"
            text = f"{what} as {earlier.path}: in {earlier.split} and {item.split}"
            leak = Finding(code="E320", severity=severity, path=item.path, text=text, hint=LEAK_HINT, group=group)
            findings.append(leak)
    return findings


def contradictions(items: Sequence[Item]) -> list[Finding]:
    """List contents that carry two labels (W336); no model can learn both."""
    labels = defaultdict(set)
    for item in items:
        labels[item.sha256].add(item.label)
    both = {content: _among(sorted(names)) for content, names in labels.items() if len(names) > 1}
    what = "the same content has two labels"
    return [
        Finding(code="W336", severity="warning", path=i.path, text=f"{what}: {both[i.sha256]}", group=what)
        for i in items
        if i.sha256 in both
    ]


def _among(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < SHOWN else some(names)  # one content may carry thousands


def class_gaps(items: Sequence[Item], settings: DataSettings) -> list[Finding]:
    """Compare the classes of the splits that were given (E321).

    A class that train lacks is an error; one that val or test lacks too, unless `allow_empty`.

    Args:
        items: Before any split is made up.
        settings: `allow_empty` is used.
    """
    classes = {split: {item.label for item in items if item.split == split} for split in SPLITS}
    if not classes["train"] and (classes["val"] or classes["test"]):
        text, hint = "val or test images, but no training images", "add a train folder, or rows with split train"
        return [Finding(code="E310", severity="error", path="", text=text, hint=hint)]
    return [gap for split in ("val", "test") if classes[split] for gap in _gaps(split, classes, settings.allow_empty)]


def lopsided(items: Sequence[Item]) -> list[Finding]:
    """Warn where the largest class has ten times the training images of the smallest, or more (W341)."""
    sizes = Counter(item.label for item in items if item.split == "train")
    if not sizes or max(sizes.values()) < LOPSIDED * min(sizes.values()):
        return []
    (large, most), (small, least) = sizes.most_common(1)[0], sizes.most_common()[-1]
    text = f"{most} training images of {large!r} against {least} of {small!r}: read the balanced accuracy"
    hint = "show rare classes more often with options.balance=1, or collect more images of them"
    return [Finding(code="W341", severity="warning", path="", text=f"{text}; {hint}", hint=hint)]


def _gaps(split: str, classes: Mapping[str, set[str]], allow_empty: bool) -> list[Finding]:
    unknown, missing = classes[split] - classes["train"], classes["train"] - classes[split]
    findings = []
    if unknown:
        text, hint = f"classes in {split} that train lacks: {_names(unknown)}", "give all splits the same class names"
        findings.append(Finding(code="E321", severity="error", path="", text=text, hint=hint))
    if missing:
        text, hint = f"classes in train that {split} lacks: {_names(missing)}", "add images, or set allow_empty"
        severity: Severity = "note" if allow_empty else "error"
        findings.append(Finding(code="E321", severity=severity, path="", text=text, hint=hint))
    return findings


def _names(labels: set[str]) -> str:
    shown = ", ".join(map(repr, sorted(labels)[:10]))
    return f"{shown} and {len(labels) - 10} more" if len(labels) > 10 else shown
