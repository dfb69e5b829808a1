"""List training images without labels: a folder of them, or the labelled images that `max_per_class` excludes."""

import os
from collections.abc import Sequence
from pathlib import Path

from effxfer.data.checks.unread import find_unreadable
from effxfer.data.listing import UNLABELLED, Finding, Item
from effxfer.data.settings import REST, DataSettings
from effxfer.data.sources.file_hashes import content_digests
from effxfer.data.sources.walk import walk
from effxfer.errors import DataError
from effxfer.runtime.images.formats import byte_limit


def list_unlabelled(
    labelled: Sequence[Item], used: Sequence[Item], settings: DataSettings, base: Path, root: Path | None, cache: Path
) -> tuple[tuple[Item, ...], list[Finding]]:
    """List the images of `settings.unlabelled`, except those that are also among the labelled ones.

    Args:
        labelled: All labelled images, before `max_per_class` excludes any.
        used: The labelled images in use.
        settings: `unlabelled` is used.
        base: Folder that a relative folder starts from.
        root: Folder that paths are relative to; None for a built-in source.
        cache: Folder with the digests of unchanged files.

    Returns:
        Items of the split `unlabelled`, without a label, sorted by path and each content once; and findings.

    Raises:
        DataError: If the folder does not exist, or all its images are among the labelled ones.
    """
    if settings.unlabelled is None:
        return (), []
    items, unreadable = (labelled, []) if settings.unlabelled == REST else _list_folder(settings, base, root, cache)
    used_contents = {item.sha256 for item in used}
    # By content: a copy of a labelled or held-out image under another name would be trained on.
    new = {item.sha256: item for item in reversed(items) if item.sha256 not in used_contents}
    if not new:
        reason = "max_per_class excludes no image" if settings.unlabelled == REST else f"{settings.unlabelled} has none"
        raise DataError(f"no image without a label: {reason}", "remove `unlabelled`", code="E310")
    unlabelled = tuple(sorted(item._replace(label="", split=UNLABELLED, domain="") for item in new.values()))
    text = f"{len(unlabelled)} training images without labels" + (
        f", {n} known ones left out" if (n := _count_repeats(items, new)) else ""
    )
    return unlabelled, [Finding(code="W339", severity="note", path="", text=text), *unreadable]


def _count_repeats(items: Sequence[Item], new: dict[str, Item]) -> int:
    """Count the images of an unlabelled folder that are also among the labelled ones."""
    return sum(item.sha256 not in new for item in items if not item.label)


def _list_folder(
    settings: DataSettings, base: Path, root: Path | None, cache: Path
) -> tuple[Sequence[Item], list[Finding]]:
    """List and digest the images of a folder at any depth, with paths relative to `root`; report unreadable ones."""
    folder = base / Path(settings.unlabelled or "").expanduser()
    if root is None:
        raise DataError(f"{settings.source} does not take a folder of unlabelled images", "set unlabelled = 'rest'")
    paths = ["/".join(parts) for parts in walk(folder).files]
    limit = byte_limit(settings.max_pixels)
    hashed, failures = content_digests(folder, paths, cache, settings.workers, limit=limit)
    start = os.path.relpath(folder.resolve(), root.resolve()).replace(os.sep, "/")
    items = [Item(f"{start}/{place}", "", UNLABELLED, "", hashed[place]) for place in paths if place in hashed]
    return items, find_unreadable({f"{start}/{place}": error for place, error in failures.items()}, settings)
