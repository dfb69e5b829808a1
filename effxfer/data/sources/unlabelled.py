"""Training images without labels: a folder of them, or those whose labels few-label settings leave out."""

import os
from collections.abc import Sequence
from pathlib import Path

from effxfer.data.checks.unread import unread
from effxfer.data.listing import UNLABELLED, Finding, Item
from effxfer.data.settings import REST, DataSettings
from effxfer.data.sources.file_hashes import content_digests
from effxfer.data.sources.walk import walk
from effxfer.errors import DataError
from effxfer.runtime.images.formats import byte_limit


def without_labels(
    found: Sequence[Item], used: Sequence[Item], settings: DataSettings, base: Path, root: Path | None, cache: Path
) -> tuple[tuple[Item, ...], list[Finding]]:
    """List the images without labels that settings name; none of them is among the labelled ones.

    Args:
        found: All labelled images, before any were left out.
        used: Those of the splits.
        settings: `unlabelled` says which.
        base: Folder that a relative folder starts from.
        root: Folder that paths are relative to; None for a built-in source.
        cache: Where digests of unchanged files are remembered.

    Returns:
        Items of the split `unlabelled`, without a label, sorted by path and each content once; and a note.

    Raises:
        DataError: If the folder does not exist, or holds no image that is not among the labelled ones.
    """
    if settings.unlabelled is None:
        return (), []
    items, unreadable = (found, []) if settings.unlabelled == REST else listed(settings, base, root, cache)
    known = {item.sha256 for item in used}
    new = {item.sha256: item for item in reversed(items) if item.sha256 not in known}
    if not new:
        where = (
            "max_per_class leaves no image out" if settings.unlabelled == REST else f"{settings.unlabelled} has none"
        )
        raise DataError(f"no image without a label: {where}", "leave unlabelled out", code="E310")
    free = tuple(sorted(item._replace(label="", split=UNLABELLED, domain="") for item in new.values()))
    text = f"{len(free)} training images without labels" + (
        f", {n} known ones left out" if (n := repeats(items, new)) else ""
    )
    return free, [Finding(code="W339", severity="note", path="", text=text), *unreadable]


def repeats(items: Sequence[Item], new: dict[str, Item]) -> int:
    """Count the images that a folder without labels shares with the labelled ones."""
    return sum(item.sha256 not in new for item in items if not item.label)


def listed(settings: DataSettings, base: Path, root: Path | None, cache: Path) -> tuple[Sequence[Item], list[Finding]]:
    """List and digest the images of a folder at any depth; paths are relative to `root`; and say what is unreadable."""
    folder = base / Path(settings.unlabelled or "").expanduser()
    if root is None:
        raise DataError(f"{settings.source} takes no folder of images without labels", "give unlabelled = 'rest'")
    places = ["/".join(parts) for parts in walk(folder).files]
    limit = byte_limit(settings.max_pixels)
    hashed, failures = content_digests(folder, places, cache, settings.workers, limit=limit)
    start = os.path.relpath(folder.resolve(), root.resolve()).replace(os.sep, "/")
    items = [Item(f"{start}/{place}", "", UNLABELLED, "", hashed[place]) for place in places if place in hashed]
    return items, unread({f"{start}/{place}": error for place, error in failures.items()}, settings)
