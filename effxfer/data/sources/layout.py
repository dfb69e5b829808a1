"""How a folder is laid out: with splits above the classes or without, and otherwise than it should be."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from effxfer.data.listing import SPLIT_NAMES, TABLES, Finding, Severity, some
from effxfer.data.settings import DataSettings
from effxfer.data.sources.walk import PACKED, Parts, Tree
from effxfer.runtime.images.names import SUFFIXES

Splits = dict[str, str]


def split_folders(tree: Tree) -> Splits:
    """Give the split of each top folder, e.g. `{"train": "train", "valid": "val"}`; empty if these are classes.

    `train` must hold folders: a class that happens to be called `train` holds images.
    """
    top = {parts[0] for parts in tree.folders}
    nested = {parts[0] for parts in tree.folders if len(parts) > 1}
    splits = {name: SPLIT_NAMES[name.lower()] for name in sorted(top) if name.lower() in SPLIT_NAMES}
    trains = any(split == "train" and name in nested for name, split in splits.items())
    return splits if trains or (splits and splits.keys() == top and nested) else {}


def mistakes(tree: Tree, splits: Splits, settings: DataSettings, root: Path) -> list[Finding]:
    """Find a data set that is laid out otherwise than it should be, for a folder in which there are classes.

    * `E310` splits inside the classes; `E312` one folder too high.

    Args:
        tree: What lies below the root.
        splits: What `split_folders` gives for it.
        settings: `class_from` is used.
        root: To name it.
    """
    return [] if splits else _splits_inside(tree) or _too_high(tree, settings, root)


def nothing(tree: Tree, root: Path) -> Finding:
    """Say that a folder holds no images, or none in a class folder (`E310`), and what may be meant instead."""
    loose = [f.path for f in tree.findings if f.code == "W309" and "/" not in f.path]
    table = next((name for name in loose if name.lower().endswith(TABLES)), "")
    packed = next((name for name in loose if name.lower().endswith(PACKED)), "")
    if tree.files:
        hint = "put each class into a folder of its own, or give a table with the columns path and label"
        return _error("E310", f"{len(tree.files)} images, but no class folders", _instead(root, table) or hint)
    hint = f"unpack {root / packed} first" if packed else f"images end in {' '.join(sorted(SUFFIXES))}"
    return _error("E310", "no images found", _instead(root, table) or hint)


def doubts(tree: Tree, splits: Splits, settings: DataSettings) -> list[Finding]:
    """Find domains that are taken as classes (`W311`), and class folders without images (`E311`).

    Args:
        tree: What lies below the root.
        splits: What `split_folders` gives for it.
        settings: `class_from` and `allow_empty` are used.
    """
    domains = _looks_like_domains(tree, 1 if splits else 0) if settings.class_from == "first" else []
    return [*domains, *_empty_classes(tree, splits, settings)]


def _instead(root: Path, name: str) -> str:
    return f"did you mean {root / name}?" if name else ""


def _splits_inside(tree: Tree) -> list[Finding]:
    """Find `cat/train/1.jpg`, where `train/cat/1.jpg` is expected: its splits would be mixed."""
    inner = {parts[:2] for parts in tree.files}
    splits = {SPLIT_NAMES.get(pair[1].lower(), "") if len(pair) > 1 else "" for pair in inner}
    if len(splits) < 2 or not {"train"} < splits <= set(SPLIT_NAMES.values()):
        return []
    names = some(["/".join(pair) for pair in sorted(inner)])
    hint = "put the classes into the splits (train/cat, test/cat), or give a table with the columns path, label, split"
    return [_error("E310", f"train and test folders lie inside the classes: {names}", hint)]


def _too_high(tree: Tree, settings: DataSettings, root: Path) -> list[Finding]:
    """Find `dataset/cat/1.jpg`, all images below one folder: the data set is that folder."""
    nested = [parts for parts in tree.files if len(parts) > 1]
    above = _common([parts[:-1] for parts in nested])
    depth = len(above)
    folders = [parts[depth:] for parts in tree.folders if parts[:depth] == above and len(parts) > depth]
    below = Tree([parts[depth:] for parts in nested], folders, [])
    classes, splits = {parts[0] for parts in below.files if len(parts) > 1}, split_folders(below)
    if not above or not (splits or (settings.class_from == "first" and len(classes) > 1)):
        return []
    what = f"{some(sorted(splits))} lie" if splits else f"{len(classes)} classes lie"
    return [_error("E312", f"one folder too high: {what} in {'/'.join(above)}", _instead(root, "/".join(above)))]


def _common(paths: Sequence[Parts]) -> Parts:
    """Give the folders that all paths begin with."""
    first, last = min(paths, default=()), max(paths, default=())
    same = next((n for n, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), None)
    return first[: min(len(first), len(last)) if same is None else same]


def _looks_like_domains(tree: Tree, depth: int) -> list[Finding]:
    below = defaultdict(set)
    for parts in tree.files:
        if len(parts) > depth + 1:
            below[parts[depth]].add(parts[depth + 1] if len(parts) > depth + 2 else "")
    sets = list(below.values())
    if len(sets) < 2 or len(sets[0]) < 2 or "" in sets[0] or any(other != sets[0] for other in sets):
        return []
    text = f"folders {some(sorted(below))} all hold {some(sorted(sets[0]))}: domains taken as classes"
    hint = 'set class_from = "parent" if the inner folders are the classes'
    return [Finding(code="W311", severity="warning", path="", text=f"{text}; {hint}", hint=hint)]


def _empty_classes(tree: Tree, splits: Splits, settings: DataSettings) -> list[Finding]:
    depth = 1 if splits else 0
    filled = {parts[:n] for parts in tree.files for n in range(1, len(parts))}
    parents = {p[:-1] for p in tree.folders} if settings.class_from != "first" else set()
    classes = [p for p in tree.folders if (len(p) > depth if parents else len(p) == depth + 1) and p not in parents]
    leaves = [p for p in classes if (not splits or p[0] in splits) and p not in filled]
    hint = "add images, remove the folder, or go on without: `data.allow_empty=true`"
    severity: Severity = "note" if settings.allow_empty else "error"
    return [
        Finding(code="E311", severity=severity, path="/".join(p), text="class folder without images", hint=hint)
        for p in leaves
    ]


def _error(code: str, text: str, hint: str) -> Finding:
    return Finding(code=code, severity="error", path="", text=text, hint=hint)
