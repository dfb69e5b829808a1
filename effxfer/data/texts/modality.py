"""Tell whether a data set holds images or texts, from its settings and its source."""

import os
from pathlib import Path

from effxfer.data.listing import TABLES
from effxfer.data.settings import OF_IMAGES, DataSettings
from effxfer.data.sources.rows import column_names
from effxfer.data.sources.walk import PACKED
from effxfer.data.texts.text_source import MOST_FILES, SUFFIXES, is_builtin, split_of_name
from effxfer.runtime.images.names import is_image, is_litter

PLAIN = ".txt"


def holds_texts(settings: DataSettings, base: Path = Path()) -> bool:
    """Whether a data set holds texts; a source that can be one of images is one, unless the settings say otherwise.

    Texts are what a setting of texts or `format` says, patterns, and files that are no table; a table with the text
    column and without the path column; and a folder of such files alone, of which one has `train` in its name.

    Args:
        settings: Settings of the data set.
        base: Folder that a relative source starts from.
    """
    if settings.format == "images" or settings.nondefault_among(OF_IMAGES):
        return False
    if settings.says_texts or is_builtin(settings.source, base):
        return True
    path = base / os.path.expanduser(settings.source)  # noqa: PTH111 (never raises)
    if os.path.isdir(path):  # noqa: PTH112 (never raises)
        return _is_folder_of_texts(path, settings)
    if not os.path.lexists(path):
        return "*" in path.name or _is_named_as_text(path)
    return _is_file_of_texts(path, settings)


def _is_folder_of_texts(folder: Path, settings: DataSettings) -> bool:
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not is_litter(entry.name)]
            names = [entry.name for entry in visible if entry.is_file()]
    except OSError:
        return False
    if not 0 < len(names) == len(visible) <= MOST_FILES or "train" not in map(split_of_name, names):
        return False
    return all(_is_file_of_texts(folder / name, settings) for name in names)


def _is_file_of_texts(file: Path, settings: DataSettings) -> bool:
    if file.suffix.lower() in TABLES:
        names = column_names(file)
        return settings.text_column in names and settings.path_column not in names
    return os.path.isfile(file) and file.suffix.lower() not in PACKED and not is_image(file.name)  # noqa: PTH113


def _is_named_as_text(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix == PLAIN or (suffix in SUFFIXES and suffix not in TABLES)
