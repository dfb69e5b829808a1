"""A pattern of folders, such as `photos/2026-*`: each is a task, in the order of their names, which are dates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effxfer.errors import DataError


def expand_folders(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the settings of each task that the settings of data name.

    Args:
        table: Settings of data. A `source` with a `*` in its last part, where only folders match, is one task for
            each of them; other sources are one task.

    Raises:
        DataError: If the folder above has no folder that matches, and no file.
    """
    source = Path(str(table.get("source", ""))).expanduser()
    if "*" not in source.name:
        return [dict(table)]
    matches = sorted(path for path in source.parent.glob(source.name) if not path.name.startswith("."))
    if not matches:
        raise DataError(f"nothing matches {table['source']}", "name a folder, or a pattern of folders or files")
    if not all(path.is_dir() for path in matches):
        return [dict(table)]
    return [{**table, "source": str(path), "name": None} for path in matches]
