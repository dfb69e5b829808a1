"""The tasks of a stage: from data settings to decoded examples."""

from collections.abc import Mapping, Sequence
from typing import Any

from effxfer.artifact import Artifact
from effxfer.data.continual.dated_folders import expand_folders
from effxfer.data.history import NONE, History
from effxfer.data.listing import Listing
from effxfer.data.loader import Loader
from effxfer.data.settings import DataSettings
from effxfer.data.several_tables.join_listings import tags_words
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.runtime.inputs import Input
from effxfer.settings import build
from effxfer.stages.data.split_history import next_history, restore_places
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.source import Source


def data_for(source: Source, table: Mapping[str, Any]) -> list[DataSettings]:
    """Return the data settings of a stage: those of `table`, or without a `source` those of the artifact.

    Raises:
        SettingsError: If neither has a data source.
    """
    if "source" in table:
        return [build(DataSettings, one, "data") for one in expand_folders(table)]
    recorded = source.manifest.data if isinstance(source, Artifact) else ()
    located = [restore_places(one["settings"], one.get("places", {})) for one in recorded]
    if not located:
        raise SettingsError(
            "no data given", "pass `data`: a folder, a .csv or .parquet table, digits, or a file of texts"
        )
    return [build(DataSettings, {**one, **table}, "data") for one in located]


def load_task(
    settings: DataSettings, input: Input, context: RunContext, history: History = NONE,
    listing: Listing | None = None, as_words: bool = False,
) -> Task:  # fmt: skip
    """Decode a task into the cache of a run; `listing` is the result of `scan`, if it is available."""
    loader = Loader(settings=settings, cache=context.cache, history=history, as_words=as_words)
    return loader.load(input, listing)


def load_tasks(
    data: Sequence[DataSettings], listings: Sequence[Listing], input: Input, context: RunContext, history: History, *,
    in_time: bool,
) -> list[Task]:  # fmt: skip
    """Decode the tasks of a stage.

    Args:
        data: Settings of each task.
        listings: Their results of `scan`.
        input: The network's input.
        context: Of the run.
        history: Splits of the network's earlier stages.
        in_time: Whether the tasks are learned one after another.
    """
    tasks = list[Task]()
    as_words = not in_time and len(listings) > 1 and any(map(tags_words, listings))
    for task_settings, listing in zip(data, listings, strict=True):
        tasks.append(load_task(task_settings, input, context, history, listing, as_words))
        # Vectors keep the mean and deviation of the first task, as they do if the next one comes a month later.
        history, input = next_history(history, listing, in_time=in_time), tasks[-1].input
    return tasks
