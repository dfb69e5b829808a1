"""Recognize a folder's layout, with splits above the classes or without, and report layout errors."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from effxfer.data.listing import SPLIT_NAMES, TABLES, Finding, Severity, first_names
from effxfer.data.settings import DataSettings
from effxfer.data.sources.walk import PACKED, Parts, Tree
from effxfer.runtime.images.names import SUFFIXES

Splits = dict[str, str]


def split_folders(tree: Tree, *, has_classes: bool = True) -> Splits:
    """Map top folders to splits, e.g. `{"train": "train", "valid": "val"}`; empty if the top folders are classes.

    With classes, `train` must hold folders: a class that happens to be named `train` holds images.
    """
    top = {parts[0] for parts in tree.folders}
    nested = {parts[0] for parts in tree.folders if len(parts) > 1}
    splits = {name: SPLIT_NAMES[name.lower()] for name in sorted(top) if name.lower() in SPLIT_NAMES}
    trains = any(split == "train" and name in nested for name, split in splits.items())
    # Where all top folders are splits, train may be absent: a later check names that.
    if not has_classes:
        return splits if "train" in splits.values() else {}
    return splits if trains or (splits and splits.keys() == top and nested) else {}


def find_layout_errors(tree: Tree, splits: Splits, settings: DataSettings, root: Path) -> list[Finding]:
    """Find layout errors in a folder with classes: splits inside the classes (`E310`), one folder too high (`E312`).

    Args:
        tree: What lies below the root.
        splits: Result of `split_folders`.
        settings: `class_from` is used.
        root: The folder, for hints.
    """
    return [] if splits else find_inner_splits(tree) or _find_parent_folder(tree, settings, root)


def no_images(tree: Tree, root: Path) -> Finding:
    """Report a folder without images, or without class folders (`E310`), with a suggestion."""
    loose = [f.path for f in tree.findings if f.code == "W309" and "/" not in f.path]
    table = next((name for name in loose if name.lower().endswith(TABLES)), "")
    packed = next((name for name in loose if name.lower().endswith(PACKED)), "")
    if tree.files:
        hint = "put each class into a folder of its own, or give a table with the columns path and label"
        return _error("E310", f"{len(tree.files)} images, but no class folders", _suggest(root, table) or hint)
    hint = f"unpack {root / packed} first" if packed else f"images end in {' '.join(sorted(SUFFIXES))}"
    if loose and not tree.folders and not packed:
        hint += "; a folder of texts has files called train, dev and test, such as train.txt"
    return _error("E310", "no images found", _suggest(root, table) or hint)


def find_doubtful_folders(tree: Tree, splits: Splits, settings: DataSettings) -> list[Finding]:
    """Find domains that are read as classes (`W311`), and class folders without images (`E311`).

    Args:
        tree: What lies below the root.
        splits: Result of `split_folders`.
        settings: `class_from` and `allow_empty` are used.
    """
    domains = _find_domains(tree, 1 if splits else 0) if settings.class_from == "first" else []
    return [*domains, *_find_empty_classes(tree, splits, settings)]


def _suggest(root: Path, name: str) -> str:
    return f"did you mean {root / name}?" if name else ""


def find_inner_splits(tree: Tree) -> list[Finding]:
    """Find `cat/train/1.jpg` instead of `train/cat/1.jpg`: read as classes, its splits would be mixed."""
    inner = {parts[:2] for parts in tree.files}
    splits = {SPLIT_NAMES.get(pair[1].lower(), "") if len(pair) > 1 else "" for pair in inner}
    if len(splits) < 2 or not {"train"} < splits <= set(SPLIT_NAMES.values()):
        return []
    names = first_names(["/".join(pair) for pair in sorted(inner)])
    hint = "put the classes into the splits (train/cat, test/cat), or give a table with the columns path, label, split"
    return [_error("E310", f"train and test folders lie inside the classes: {names}", hint)]


def _find_parent_folder(tree: Tree, settings: DataSettings, root: Path) -> list[Finding]:
    """Find `dataset/cat/1.jpg`, with all images below one folder, which is the actual data set."""
    nested = [parts for parts in tree.files if len(parts) > 1]
    above = _common_prefix([parts[:-1] for parts in nested])
    depth = len(above)
    folders = [parts[depth:] for parts in tree.folders if parts[:depth] == above and len(parts) > depth]
    below = Tree([parts[depth:] for parts in nested], folders, [])
    classes, splits = {parts[0] for parts in below.files if len(parts) > 1}, split_folders(below)
    if not above or not (splits or (settings.class_from == "first" and len(classes) > 1)):
        return []
    content = f"{first_names(sorted(splits))} lie" if splits else f"{len(classes)} classes lie"
    return [_error("E312", f"one folder too high: {content} in {'/'.join(above)}", _suggest(root, "/".join(above)))]


def _common_prefix(paths: Sequence[Parts]) -> Parts:
    """Return the folders that all paths start with."""
    # What the least and the greatest of sorted paths share, all share.
    first, last = min(paths, default=()), max(paths, default=())
    length = next((n for n, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), None)
    return first[: min(len(first), len(last)) if length is None else length]


def _find_domains(tree: Tree, depth: int) -> list[Finding]:
    below = defaultdict(set)
    for parts in tree.files:
        if len(parts) > depth + 1:
            below[parts[depth]].add(parts[depth + 1] if len(parts) > depth + 2 else "")
    sets = list(below.values())
    if len(sets) < 2 or len(sets[0]) < 2 or "" in sets[0] or any(other != sets[0] for other in sets):
        return []
    text = f"folders {first_names(sorted(below))} all hold {first_names(sorted(sets[0]))}: domains are read as classes"
    hint = 'set class_from = "parent" if the inner folders are the classes'
    return [Finding(code="W311", severity="warning", path="", text=f"{text}; {hint}", hint=hint)]


def _find_empty_classes(tree: Tree, splits: Splits, settings: DataSettings) -> list[Finding]:
    depth = 1 if splits else 0
    filled = {parts[:n] for parts in tree.files for n in range(1, len(parts))}
    parents = {p[:-1] for p in tree.folders} if settings.class_from != "first" else set()
    classes = [p for p in tree.folders if (len(p) > depth if parents else len(p) == depth + 1) and p not in parents]
    leaves = [p for p in classes if (not splits or p[0] in splits) and p not in filled]
    hint = "add images, remove the folder, or accept it: `data.allow_empty=true`"
    severity: Severity = "note" if settings.allow_empty else "error"
    return [
        Finding(code="E311", severity=severity, path="/".join(p), text="class folder without images", hint=hint)
        for p in leaves
    ]


def _error(code: str, text: str, hint: str) -> Finding:
    return Finding(code=code, severity="error", path="", text=text, hint=hint)
