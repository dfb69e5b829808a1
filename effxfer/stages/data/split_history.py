"""Splits and locations of the data that earlier stages used, so that a later stage keeps the same splits."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from effxfer import model_source
from effxfer.artifact import Artifact
from effxfer.data.history import NONE, SPLITS_FILE, History, Record, read_history, record_of
from effxfer.data.listing import Listing
from effxfer.data.settings import DataSettings
from effxfer.memory_file import MEMORY
from effxfer.prune.tickets.file import TicketFile
from effxfer.stages.runner.source import AdapterOnBase, Source
from effxfer.stages.settings.base import StageSettings

PLACES = ("source", "root", "unlabelled", "class_embeddings")


def history_of(source: Source, settings: StageSettings) -> History:
    """Return the splits on which a stage's input network, its teacher and its other backbones were trained.

    Raises:
        ModelFileError: If one of their directories cannot be read.
    """
    start = source.base if isinstance(source, AdapterOnBase) else source
    backbones = [settings.teacher_network] if settings.teacher_network else []
    backbones += [backbone for entries in settings.networks.values() for backbone in entries]
    networks = [*backbones, start] if not isinstance(start, TicketFile) else backbones
    history = NONE
    for network in networks:
        model = network if isinstance(network, Artifact) else model_source.find(network.source)
        history = history.with_records(_records(model) if model else ())
    return replace(history, keeps_classes=learned_in_time(source))


def learned_in_time(source: Source) -> bool:
    """Whether a stage's input network learned tasks one after another."""
    start = source.base if isinstance(source, AdapterOnBase) else source
    if isinstance(start, TicketFile):
        return False
    model = start if isinstance(start, Artifact) else model_source.find(start.source)
    return model is not None and learns_in_time(model)


def learns_in_time(model: Artifact) -> bool:
    """Whether a network learned tasks one after another; an exported one has no memory any more."""
    grown = any(edit["kind"] == "grow_head" for edit in model.manifest.edits)
    return grown or MEMORY in model.manifest.files


def history_after(history: History, listing: Listing) -> History:
    """Return the history before the next task of a stream: examples keep the splits that they had in this one."""
    return replace(history.with_records((record_of(listing),)), keeps_classes=True)


def next_history(history: History, listing: Listing, *, in_time: bool) -> History:
    """Return the history before the next of a stage's data: a later task, or another table of the same time."""
    if in_time:
        return history_after(history, listing)
    # A network that learned in time takes its tasks as one: it says itself which splits they had.
    return history if history.keeps_classes else history.with_table(listing)


def _records(model: Artifact) -> tuple[Record, ...]:
    """Read the splits of a result; results of older versions have only names and digests of their data."""
    if SPLITS_FILE in model.manifest.files:
        return read_history(model.path / SPLITS_FILE).records
    return tuple(Record(name=str(data["name"]), digest=str(data["digest"])) for data in model.manifest.data)


def places_of(settings: DataSettings) -> dict[str, Any]:
    """Return the absolute paths of the data, so that another working directory finds them; not part of any key."""
    named = {name: value for name in PLACES if (value := getattr(settings, name)) is not None}
    places: dict[str, Any] = {name: str(path) for name, value in named.items() if _exists(path := _absolute(value))}
    return {**places, "target": places_of(settings.target)} if settings.target else places


def restore_places(settings: Mapping[str, Any], places: Mapping[str, Any]) -> dict[str, Any]:
    """Replace relative paths in the settings of data by the recorded absolute ones, if those still exist."""
    relocated = dict(settings)
    for name in PLACES:
        place = places.get(name)
        if place and relocated.get(name) and _exists(Path(place)) and _absolute(relocated[name]) != Path(place):
            relocated[name] = place
    if relocated.get("target") and "target" in places:
        relocated["target"] = restore_places(relocated["target"], places["target"])
    return relocated


def _exists(place: Path) -> bool:
    """Whether there is something at a path, or a file of a pattern such as `sst2.*`."""
    return place.exists() or ("*" in place.name and next(place.parent.glob(place.name), None) is not None)


def _absolute(place: str) -> Path:
    return Path(os.path.expanduser(place)).absolute()  # noqa: PTH111 (never raises)
