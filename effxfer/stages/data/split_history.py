"""What a stage knows of the data of stages before it: which images were in which split, and where they lay."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effxfer import artifact
from effxfer.artifact import Artifact
from effxfer.data.history import NONE, SPLITS_FILE, History, Record, read_history
from effxfer.data.settings import DataSettings
from effxfer.prune.tickets.file import TicketFile
from effxfer.stages.runner.source import Adapted, Source
from effxfer.stages.settings.base import StageSettings

PLACES = ("source", "root", "unlabelled")


def history_of(source: Source, settings: StageSettings) -> History:
    """Give what the network to start from, its teacher and the other backbones of a stage were trained on before.

    Raises:
        ModelFileError: If one of them cannot be read.
    """
    start = source.base if isinstance(source, Adapted) else source
    others = [settings.teacher_network] if settings.teacher_network else []
    others += [backbone for backbones in settings.networks.values() for backbone in backbones]
    named = [*others, start] if not isinstance(start, TicketFile) else others
    history = NONE
    for one in named:
        found = one if isinstance(one, Artifact) else artifact.find(one.source)
        history = history.with_records(_records(found) if found else ())
    return history


def _records(one: Artifact) -> tuple[Record, ...]:
    """Read a result's splits; of what was written before there were any, names and digests alone."""
    if SPLITS_FILE in one.manifest.files:
        return read_history(one.path / SPLITS_FILE).records
    return tuple(Record(name=str(data["name"]), digest=str(data["digest"])) for data in one.manifest.data)


def places_of(settings: DataSettings) -> dict[str, Any]:
    """Note where data lie, so that they are found from another working directory; it is part of no key."""
    named = {name: value for name in PLACES if (value := getattr(settings, name)) is not None}
    found: dict[str, Any] = {name: str(path) for name, value in named.items() if (path := _absolute(value)).exists()}
    return {**found, "target": places_of(settings.target)} if settings.target else found


def restore_places(settings: Mapping[str, Any], places: Mapping[str, Any]) -> dict[str, Any]:
    """Point settings to where their data lay, if these are still there; else the settings hold as they are."""
    made = dict(settings)
    for name in PLACES:
        place = places.get(name)
        if place and made.get(name) and Path(place).exists() and _absolute(made[name]) != Path(place):
            made[name] = place
    if made.get("target") and "target" in places:
        made["target"] = restore_places(made["target"], places["target"])
    return made


def _absolute(place: str) -> Path:
    return Path(os.path.expanduser(place)).absolute()  # noqa: PTH111 (never raises)
