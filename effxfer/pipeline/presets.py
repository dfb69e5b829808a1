"""Presets: shipped pipelines for a purpose, of which texts have their own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from effxfer.data.settings import DataSettings
from effxfer.data.texts.modality import holds_texts
from effxfer.errors import SettingsError, did_you_mean
from effxfer.model_source import bundled_folder
from effxfer.pipeline.plan import apply_change
from effxfer.settings import build, problems

PRESETS = "presets"
OF_TEXTS = "texts"


def find_preset(name: str, data: str = "", changes: Sequence[str] = ()) -> Path:
    """Find the file of a preset for images, or for texts if the data set holds some.

    Args:
        name: Name of the preset.
        data: Source of the data set; empty for that of the preset, which holds images.
        changes: Changes of settings, of which those of `data` matter; see `read_plan`.

    Raises:
        SettingsError: If there is none; the error lists the names.
    """
    folder = bundled_folder("pipelines") / PRESETS
    presets = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    if name not in presets:
        raise SettingsError(f"no preset {name!r}{did_you_mean(name, presets)}", f"presets: {', '.join(presets)}")
    return folder / OF_TEXTS / presets[name].name if _is_of_texts(data, changes) else presets[name]


def _is_of_texts(data: str, changes: Sequence[str]) -> bool:
    table: dict[str, Any] = {"data": {"source": data} if data else {}}
    for text in changes:
        if text.startswith("data."):
            apply_change(table, text)
    settings = table["data"]
    # Mistakes are reported with all others when the preset is read.
    if "source" not in settings or problems(DataSettings, settings):
        return False
    return holds_texts(build(DataSettings, settings, "data"))
