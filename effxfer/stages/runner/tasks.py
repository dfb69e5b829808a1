"""The tasks of a stage: from data settings to decoded examples."""

from collections.abc import Mapping
from typing import Any

from effxfer.artifact import Artifact
from effxfer.data.history import NONE, History
from effxfer.data.listing import Listing
from effxfer.data.loader import Loader
from effxfer.data.settings import DataSettings
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.runtime.inputs import Input
from effxfer.settings import build
from effxfer.stages.data.split_history import restore_places
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.source import Source


def data_for(source: Source, table: Mapping[str, Any]) -> list[DataSettings]:
    """Return the data settings of a stage: those of `table`, or without a `source` those of the artifact.

    Raises:
        SettingsError: If neither has a data source.
    """
    if "source" in table:
        return [build(DataSettings, table, "data")]
    recorded = source.manifest.data if isinstance(source, Artifact) else ()
    located = [restore_places(one["settings"], one.get("places", {})) for one in recorded]
    if not located:
        raise SettingsError(
            "no data given", "pass `data`: a folder, a .csv or .parquet table, digits, or a file of texts"
        )
    return [build(DataSettings, {**one, **table}, "data") for one in located]


def load_task(
    settings: DataSettings, input: Input, context: RunContext, history: History = NONE,
    listing: Listing | None = None,
) -> Task:  # fmt: skip
    """Decode a task into the cache of a run; `listing` is the result of `scan`, if it is available."""
    return Loader(settings=settings, cache=context.cache, history=history).load(input, listing)
