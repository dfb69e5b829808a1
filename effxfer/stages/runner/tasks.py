"""The tasks of a stage: from data settings to decoded images, with a progress bar."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from effxfer import progress
from effxfer.artifact import Artifact
from effxfer.data.history import NONE, History
from effxfer.data.load import load
from effxfer.data.settings import DataSettings
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.settings import build
from effxfer.stages.data.split_history import found_again
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.source import Source


def data_for(source: Source, table: Mapping[str, Any]) -> list[DataSettings]:
    """Settings of the data of a single stage: what `table` says; without a source, the data of the artifact.

    Raises:
        SettingsError: If neither names any.
    """
    if "source" in table:
        return [build(DataSettings, table, "data")]
    recorded = source.manifest.data if isinstance(source, Artifact) else ()
    located = [found_again(one["settings"], one.get("places", {})) for one in recorded]
    if not located:
        raise SettingsError("no data given", "pass `data`: a folder, a .csv or .parquet table, or digits")
    return [build(DataSettings, {**one, **table}, "data") for one in located]


def load_task(settings: DataSettings, preprocess: Preprocess, context: RunContext, history: History = NONE) -> Task:
    """Decode a task, with a progress bar if there is anything to decode."""
    with ExitStack() as stack:
        done, advance = 0, None

        def count(now: int, total: int) -> None:
            nonlocal done, advance
            if now < done:  # the target's turn
                done, advance = 0, None
            advance = advance or stack.enter_context(progress.bar(f"decode {Path(settings.source).name}", total))
            advance(now - done, "")
            done = now

        task = load(settings, preprocess, cache=context.cache, progress=count, history=history)
    return replace(task, decode=lambda other: load_task(settings, other, context, history))
