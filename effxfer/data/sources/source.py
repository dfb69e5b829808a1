"""List the images of a source: a folder, shards, a table or a built-in data set."""

import os
from pathlib import Path

from effxfer.data.listing import POSITION_KINDS, TABLES, SourceListing
from effxfer.data.settings import DataSettings
from effxfer.data.sources.builtin import read_builtin
from effxfer.data.sources.folder import read_folder
from effxfer.data.sources.shards.shard_source import find_shards, read_shards
from effxfer.data.sources.table import read_table
from effxfer.errors import DataError


def read_source(settings: DataSettings, base: Path) -> tuple[Path | None, SourceListing]:
    """List the images of a source.

    Args:
        settings: Settings of the data set.
        base: Folder that a relative source starts from.

    Returns:
        The folder that paths are relative to, None for a built-in source; and the images.

    Raises:
        DataError: If there is no such source, or it cannot be read; `E344` if it cannot hold this kind of label.
        ResourceError: If a package that the source needs is not installed.
    """
    kinds = [kind for kind in (settings.labels, *settings.tasks.values()) if kind in POSITION_KINDS]
    if kinds:
        text = f"{settings.source} holds images, and labels of kind {kinds[0]!r} are of texts"
        raise DataError(text, "give texts: CoNLL for tags, SQuAD for span", code="E344")
    path = base / os.path.expanduser(settings.source)  # noqa: PTH111 (never raises)
    if not os.path.lexists(path) and "/" not in settings.source and not Path(settings.source).suffix:
        _require_single(settings, "a built-in data set")
        return None, read_builtin(settings.source)
    if shards := find_shards(path):
        _require_single(settings, "a shard")
        folder = path.parent if path.name == shards[0] else path
        return folder, read_shards(folder, shards, settings)
    if not settings.source.lower().endswith(TABLES) or os.path.isdir(path):  # noqa: PTH112 (never raises)
        _require_single(settings, "a folder")
        return path, read_folder(path, settings)
    root = _table_root(path, settings, base)
    return root, read_table(path, settings, root)


def _require_single(settings: DataSettings, source: str) -> None:
    if settings.labels not in ("single", "none"):
        text = f"{settings.source} is {source}, which has one class for each image, and labels is {settings.labels!r}"
        hint = "give a .csv, .tsv or .parquet table with a column of paths and columns of labels, or leave labels out"
        raise DataError(text, hint, code="E344")


def _table_root(table: Path, settings: DataSettings, base: Path) -> Path:
    if settings.root is None:
        return table.parent
    root = base / os.path.expanduser(settings.root)  # noqa: PTH111 (never raises)
    if not os.path.isdir(root):  # noqa: PTH112 (never raises)
        raise DataError(f"data.root is {root}, which is no folder", "name the folder of the images", code="E310")
    return root
