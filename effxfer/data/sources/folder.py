"""Class folders, with or without train/val/test folders above them."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from effxfer.data.listing import Finding, Found, Item, some
from effxfer.data.settings import DataSettings
from effxfer.data.sources.layout import Splits, doubts, mistakes, nothing, split_folders
from effxfer.data.sources.walk import Tree, walk


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
    splits, labels = split_folders(tree), _Labels()
    items, aside = _items(tree, splits, settings, labels)
    wrong = mistakes(tree, splits, settings, root) if items else [nothing(tree, root)]
    spelled = [*_undecodable(labels), *collisions({item.label for item in items})]
    return Found(items, [*wrong, *tree.findings, *aside, *doubts(tree, splits, settings), *spelled])


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
        Finding(code="W318", severity="warning", path="", text=f"classes differ only in spelling: {some(names)}")
        for names in same.values()
        if len(names) > 1
    ]


class _Labels(dict[str, str]):
    """Class names by folder name, each worked out once."""

    def __call__(self, folder: str) -> str:
        if folder not in self:
            self[folder] = label_of(folder)
        return self[folder]


def _items(tree: Tree, splits: Splits, settings: DataSettings, labels: _Labels) -> tuple[list[Item], list[Finding]]:
    items, findings = [], []
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
    return items, findings


def _aside(path: str, text: str) -> Finding:
    return Finding(code="W310", severity="warning", path=path, text=text)


def _undecodable(labels: Mapping[str, str]) -> list[Finding]:
    """Name folders whose names are no UTF-8 (`W318`), and refuse those that become one class by it (`E318`)."""
    folders = defaultdict(list)
    for folder, label in labels.items():
        if not _is_utf8(folder):
            folders[label].append(folder)
    return [_read_as(label, same) for label, same in folders.items()]


def _is_utf8(name: str) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in name)


def _read_as(label: str, folders: Sequence[str]) -> Finding:
    hint = "rename it in UTF-8 (convmv does many)"
    if len(folders) == 1:
        text = f"name is no UTF-8, read as {label!r}"
        return Finding(code="W318", severity="warning", path=folders[0], text=text, hint=hint)
    text = f"{len(folders)} folders whose names are no UTF-8 would all become the class {label!r}"
    return Finding(code="E318", severity="error", path=folders[0], text=text, hint=hint)
