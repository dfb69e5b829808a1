"""List the images of shards in the layout of WebDataset (https://github.com/webdataset/webdataset).

Files of one sample have the same name up to the first dot behind the last slash: `17.jpg` is the image, `17.cls` or
`17.json` its label.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from effxfer.data.listing import SPLIT_NAMES, Finding, Item, SourceListing, first_names
from effxfer.data.settings import DataSettings
from effxfer.data.sources.folder import label_of
from effxfer.data.sources.shards.tar_index import SUFFIX, members, read_member
from effxfer.errors import DataError
from effxfer.runtime.images.names import is_image, is_litter

# 1 MB; a label has some bytes, a description some thousand.
MOST_LABEL = 2**20
LABEL, DESCRIPTION = "cls", "json"
HINT = "beside 17.jpg put 17.cls with the class, or 17.json with the key label"


def find_shards(path: Path) -> list[str]:
    """Return the names of the shards of a source: a `.tar` itself, or those of a folder with nothing but them.

    Args:
        path: A file or a folder.

    Returns:
        Sorted names; empty if it is another source.
    """
    if path.name.lower().endswith(SUFFIX):
        return [path.name] if os.path.isfile(path) else []  # noqa: PTH113 (never raises)
    try:
        names = sorted(name for name in os.listdir(path) if not is_litter(name))  # noqa: PTH208 (names alone)
    except OSError:
        return []
    return names if all(name.endswith(SUFFIX) for name in names) else []


def read_shards(folder: Path, names: list[str], settings: DataSettings) -> SourceListing:
    """List the images of shards; each has the path `SHARD.tar/NAME`.

    Args:
        folder: Folder of the shards.
        names: Their file names. If one begins with `train`, the first word of each says its split.
        settings: `labels` is used.

    Raises:
        DataError: If a shard is damaged, or holds other things than regular files (`E323`).
    """
    items, findings = list[Item](), list[Finding]()
    splits = {name: SPLIT_NAMES.get(re.split(r"[^A-Za-z]", name, maxsplit=1)[0].lower(), "") for name in names}
    has_splits = "train" in splits.values() and len(set(splits.values())) > 1
    for name in names:
        for path, label in _samples(folder / name, settings.labels != "none", findings).items():
            items.append(Item(f"{name}/{path}", label, splits[name] if has_splits else ""))
    return SourceListing(items, findings if items else [*findings, _finding("no images found")])


def _samples(file: Path, has_labels: bool, findings: list[Finding]) -> dict[str, str]:
    """Return the labels of a shard's images by name; report images without one."""
    parts = defaultdict[str, dict[str, str]](dict)
    for name in members(file):
        folder, slash, leaf = name.rpartition("/")
        key, _, extension = leaf.partition(".")
        if key and not is_litter(leaf):
            parts[folder + slash + key][extension.lower()] = name
    labels, missing = dict[str, str](), list[str]()
    for sample in parts.values():
        for name in sorted(name for name in sample.values() if is_image(name)):
            label = _label(file, sample) if has_labels else ""
            labels[name] = label
            missing += [name] if has_labels and not label else []
    if missing:
        findings.append(_finding(f"images of {file.name} without a label: {first_names(missing)}"))
    return labels


def _label(file: Path, sample: Mapping[str, str]) -> str:
    """Return the label of a sample; empty if it has none.

    Raises:
        DataError: If it is unreadable (`E323`).
    """
    name = sample.get(LABEL) or sample.get(DESCRIPTION)
    if name is None:
        return ""
    try:
        text = read_member(file, name, MOST_LABEL).decode()
        value = text.strip() if LABEL in sample else json.loads(text)["label"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise DataError(f"{file}: {name} holds no label: {error}", HINT, code="E323") from None
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise DataError(f"{file}: the label of {name} is no text and no whole number", HINT, code="E323")
    return label_of(str(value).strip())


def _finding(text: str) -> Finding:
    return Finding(code="E310", severity="error", path="", text=text, hint=HINT)
