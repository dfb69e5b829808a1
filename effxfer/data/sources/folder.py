"""List class folders, with or without train/val/test folders above them."""

import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from effxfer.data.checks.class_names import check_names
from effxfer.data.listing import Finding, Item, SourceListing
from effxfer.data.settings import DataSettings
from effxfer.data.sources.layout import (
    Splits,
    find_doubtful_folders,
    find_inner_splits,
    find_layout_errors,
    no_images,
    split_folders,
)
from effxfer.data.sources.walk import Tree, walk


def read_folder(root: Path, settings: DataSettings) -> SourceListing:
    """List the images of a folder of class folders; without labels, all images at any depth.

    Args:
        root: The folder; `train` and, if present, `val`/`valid`/`validation`/`dev` and `test`/`testing` hold the
            class folders if `train` holds folders, otherwise the folders of the root are the classes.
        settings: `labels`, `class_from` and `allow_empty` are used.

    Raises:
        DataError: If the folder does not exist or cannot be read.
    """
    tree = walk(root)
    splits, labels = split_folders(tree, has_classes=settings.labels != "none"), _Labels()
    items, ignored = _items(tree, splits, settings, labels)
    if settings.labels == "none":
        inner = [] if splits else find_inner_splits(tree)
        return SourceListing(items, [*(inner if items else [no_images(tree, root)]), *tree.findings, *ignored])
    problems = find_layout_errors(tree, splits, settings, root) if items else [no_images(tree, root)]
    spelling = [*_check_encoding(labels), *check_names(item.label for item in items)]
    return SourceListing(
        items, [*problems, *tree.findings, *ignored, *find_doubtful_folders(tree, splits, settings), *spelling]
    )


def label_of(folder: str) -> str:
    """Return the class name of a folder in composed Unicode (NFC), with undecodable bytes replaced."""
    # Names that are no UTF-8 reach Python with surrogates, which JSON and terminals refuse.
    readable = folder.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    # macOS decomposes accents: the same folder would be another class there.
    return unicodedata.normalize("NFC", readable)


class _Labels(dict[str, str]):
    """Cache of class names by folder name."""

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
            findings.append(_ignored_finding(path, "outside the train, val and test folders, ignored"))
        elif len(parts) < depth + 2 and settings.labels == "none":
            items.append(Item(path, "", splits[parts[0]] if splits else ""))
        elif len(parts) < depth + 2:
            findings.append(_ignored_finding(path, "image outside any class folder, ignored"))
        else:
            folder = {"first": parts[depth], "parent": parts[-2], "path": "/".join(parts[depth:-1])}[
                settings.class_from
            ]
            domain = parts[depth] if settings.class_from == "parent" and len(parts) > depth + 2 else ""
            items.append(Item(path, labels(folder), splits[parts[0]] if splits else "", domain))
    return items, findings


def _ignored_finding(path: str, text: str) -> Finding:
    return Finding(code="W310", severity="warning", path=path, text=text)


def _check_encoding(labels: Mapping[str, str]) -> list[Finding]:
    """Warn about folder names that are not UTF-8 (`W318`), and refuse those that become one class (`E318`)."""
    folders = defaultdict(list)
    for folder, label in labels.items():
        if not _is_utf8(folder):
            folders[label].append(folder)
    return [_encoding_finding(label, same) for label, same in folders.items()]


def _is_utf8(name: str) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in name)


def _encoding_finding(label: str, folders: Sequence[str]) -> Finding:
    hint = "rename it in UTF-8 (convmv does many)"
    if len(folders) == 1:
        text = f"name is not UTF-8, read as {label!r}"
        return Finding(code="W318", severity="warning", path=folders[0], text=text, hint=hint)
    text = f"{len(folders)} folders whose names are not UTF-8 would all become the class {label!r}"
    return Finding(code="E318", severity="error", path=folders[0], text=text, hint=hint)
