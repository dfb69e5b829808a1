"""Class folders, with or without train/val/test folders above them."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from effxfer.data.listing import SPLIT_NAMES, Finding, Found, Item
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError

PHOTOS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif")
SUFFIXES = frozenset({*PHOTOS, ".tif", ".tiff", ".mpo", ".avif", ".heic", ".heif"})
LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


class Tree(NamedTuple):
    """What lies below a root: image files and folders as path parts, and findings."""

    files: list[tuple[str, ...]]
    folders: list[tuple[str, ...]]
    findings: list[Finding]


def read_folder(root: Path, settings: DataSettings) -> Found:
    """List the images of a folder of class folders.

    Args:
        root: The folder; `train` and, if present, `val`/`valid`/`validation`/`dev` and `test`/`testing` hold the
            class folders if `train` holds folders, otherwise the folders of the root are the classes.
        settings: `class_from` and `allow_empty` are used.

    Raises:
        DataError: If the folder does not exist or cannot be read.
    """
    tree = walk(root)
    splits = split_folders(tree)
    items, findings = _items(tree, splits, settings)
    found = [*tree.findings, *findings, *_empty_classes(tree, splits, settings), *collisions({i.label for i in items})]
    if not items:
        found.insert(0, _nothing(tree))
    return Found(items, found)


def walk(root: Path) -> Tree:
    """Find image files below `root`, through links but around loops, without hidden entries and litter.

    Raises:
        DataError: If the root does not exist or cannot be read.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root} {what}", "give a folder of class folders, a .csv, .tsv or .parquet table", code="E310")
    walker = _Walker(root)
    walker.enter(root, ())
    return Tree(sorted(walker.files), sorted(walker.folders), walker.findings)


def split_folders(tree: Tree) -> dict[str, str]:
    """Give the split of each top folder, e.g. `{"train": "train", "valid": "val"}`; empty if these are classes.

    `train` must hold folders: a class that happens to be called `train` holds images.
    """
    top = {parts[0] for parts in tree.folders}
    nested = {parts[0] for parts in tree.folders if len(parts) > 1}
    splits = {name: SPLIT_NAMES[name.lower()] for name in sorted(top) if name.lower() in SPLIT_NAMES}
    trains = any(split == "train" and name in nested for name, split in splits.items())
    return splits if trains or (splits and splits.keys() == top and nested) else {}


def is_image(name: str) -> bool:
    """Say whether a file name ends like an image's."""
    return name[name.rfind(".") :].lower() in SUFFIXES


def label_of(folder: str) -> str:
    """Give the class name of a folder: composed Unicode, and readable even if the file system's bytes are not."""
    readable = folder.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return unicodedata.normalize("NFC", readable)


def collisions(labels: Iterable[str]) -> list[Finding]:
    """Warn about classes whose names differ only in case, spaces at the ends or Unicode form."""
    same = defaultdict(list)
    for label in sorted(labels):
        same[unicodedata.normalize("NFKC", label).casefold().strip()].append(label)
    return [
        Finding(code="W318", severity="warning", path="", text=f"classes differ only in spelling: {', '.join(names)}")
        for names in same.values()
        if len(names) > 1
    ]


class _Walker:
    """Collects files; links to folders wait until every real folder has been visited."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.visited: set[tuple[int, int]] = set()
        self.links: list[tuple[Path, tuple[str, ...]]] = []
        self.files: list[tuple[str, ...]] = []
        self.folders: list[tuple[str, ...]] = []
        self.findings: list[Finding] = []

    def enter(self, folder: Path, parts: tuple[str, ...]) -> None:
        self._visit(folder, parts)
        while self.links:
            link, link_parts = self.links.pop(0)
            if self._inode(link) in self.visited:
                self._note("W315", "warning", link_parts, "link to a folder that is already listed, left out")
            else:
                self._warn_outside(link, link_parts)
                self.folders.append(link_parts)
                self._visit(link, link_parts)

    def _visit(self, folder: Path, parts: tuple[str, ...]) -> None:
        self.visited.add(self._inode(folder))
        try:
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: entry.name)
        except PermissionError:
            hint = "change its permissions, or move it away"
            self._note("E319", "error", parts, "folder cannot be read (no permission)", hint)
            return
        for entry in ordered:
            self._entry(entry, (*parts, entry.name))

    def _entry(self, entry: "os.DirEntry[str]", parts: tuple[str, ...]) -> None:
        if entry.name.startswith(".") or entry.name.lower() in LITTER:
            if entry.is_dir():
                self._note("W314", "warning", parts, "hidden folder ignored")
        elif entry.is_symlink():
            self._link(Path(entry.path), parts)
        elif entry.is_dir():
            self._folder(Path(entry.path), parts)
        else:
            self._file(parts)

    def _folder(self, path: Path, parts: tuple[str, ...]) -> None:
        if is_image(parts[-1]) and not any(child.is_dir() for child in path.iterdir()):
            self._note("W319", "note", parts, "folder with the name of an image ignored")
            return
        self.folders.append(parts)
        self._visit(path, parts)

    def _link(self, path: Path, parts: tuple[str, ...]) -> None:
        if path.is_dir():
            self.links.append((path, parts))
        elif os.path.exists(path):  # noqa: PTH110 (never raises; what is no regular file is said when it is read)
            self._warn_outside(path, parts)
            self._file(parts)
        elif is_image(parts[-1]):
            hint = "restore what it points to, or remove it"
            self._note("E316", "error", parts, "dangling link", hint)
        else:
            self._note("W316", "warning", parts, "dangling link ignored")

    def _file(self, parts: tuple[str, ...]) -> None:
        if is_image(parts[-1]):
            self.files.append(parts)
        else:
            self._note("W309", "note", parts, "not an image by its name, ignored")

    def _warn_outside(self, path: Path, parts: tuple[str, ...]) -> None:
        if not path.resolve().is_relative_to(self.root):
            self._note("W317", "warning", parts, "link to outside of the data folder, followed")

    def _note(self, code: str, severity: str, parts: Sequence[str], text: str, hint: str = "") -> None:
        self.findings.append(Finding(code=code, severity=severity, path="/".join(parts), text=text, hint=hint))  # type: ignore[arg-type]

    @staticmethod
    def _inode(folder: Path) -> tuple[int, int]:
        facts = folder.stat()
        return facts.st_dev, facts.st_ino


def _items(tree: Tree, splits: dict[str, str], settings: DataSettings) -> tuple[list[Item], list[Finding]]:
    items, findings, labels = [], [], _Labels()
    depth = 1 if splits else 0
    for parts in tree.files:
        path = "/".join(parts)
        if splits and parts[0] not in splits:
            findings.append(_aside(path, "outside the train, val and test folders, ignored"))
        elif len(parts) < depth + 2:
            findings.append(_aside(path, "image outside any class folder, ignored"))
        else:
            folder = {"first": parts[depth], "parent": parts[-2], "path": "/".join(parts[depth:-1])}[
                settings.class_from
            ]
            domain = parts[depth] if settings.class_from == "parent" and len(parts) > depth + 2 else ""
            items.append(Item(path, labels(folder), splits[parts[0]] if splits else "", domain))
    if settings.class_from == "first":
        findings += _looks_like_domains(tree, depth)
    return items, findings


class _Labels(dict[str, str]):
    """Class names by folder name, each worked out once."""

    def __call__(self, folder: str) -> str:
        if folder not in self:
            self[folder] = label_of(folder)
        return self[folder]


def _aside(path: str, text: str) -> Finding:
    return Finding(code="W310", severity="warning", path=path, text=text)


def _looks_like_domains(tree: Tree, depth: int) -> list[Finding]:
    below = defaultdict(set)
    for parts in tree.files:
        if len(parts) > depth + 1:
            below[parts[depth]].add(parts[depth + 1] if len(parts) > depth + 2 else "")
    sets = list(below.values())
    if len(sets) < 2 or len(sets[0]) < 2 or "" in sets[0] or any(other != sets[0] for other in sets):
        return []
    text = f"folders {', '.join(sorted(below))} all hold {', '.join(sorted(sets[0])[:4])} ...: domains taken as classes"
    hint = 'set class_from = "parent" if the inner folders are the classes'
    return [Finding(code="W311", severity="warning", path="", text=f"{text}; {hint}", hint=hint)]


def _empty_classes(tree: Tree, splits: dict[str, str], settings: DataSettings) -> list[Finding]:
    depth = 1 if splits else 0
    filled = {parts[:n] for parts in tree.files for n in range(1, len(parts))}
    parents = {p[:-1] for p in tree.folders} if settings.class_from != "first" else set()
    classes = [p for p in tree.folders if (len(p) > depth if parents else len(p) == depth + 1) and p not in parents]
    leaves = [p for p in classes if (not splits or p[0] in splits) and p not in filled]
    hint = "add images, remove the folder, or set allow_empty (--allow-empty)"
    severity = "note" if settings.allow_empty else "error"
    return [
        Finding(code="E311", severity=severity, path="/".join(p), text="class folder without images", hint=hint)  # type: ignore[arg-type]
        for p in leaves
    ]


def _nothing(tree: Tree) -> Finding:
    if any(len(parts) == 1 for parts in tree.files):
        text = f"{len(tree.files)} images, but no class folders"
        return Finding(
            code="E310", severity="error", path="", text=text, hint="put each class into a folder of its own"
        )
    hint = f"images end in {' '.join(sorted(SUFFIXES))}"
    return Finding(code="E310", severity="error", path="", text="no images found", hint=hint)
