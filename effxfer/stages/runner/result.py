"""The directory of a stage's result: locked during the stage, written atomically, and reused by its key."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effxfer import artifact
from effxfer.artifact import Artifact
from effxfer.data.history import NONE, SPLITS_FILE, History, write_history
from effxfer.data.settings import DataSettings
from effxfer.data.task import Task
from effxfer.errors import LockedError, ModelFileError, ResourceError, SettingsError
from effxfer.files import read_lines, remove_abandoned, write_directory
from effxfer.process.folder_lock import lock_folder
from effxfer.report import Report
from effxfer.settings import Settings
from effxfer.stages.data.split_history import places_of
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.output_dir import check_ours
from effxfer.stages.runner.source import Source, parent_of
from effxfer.train.settings import METRICS, RESULT

if TYPE_CHECKING:
    from effxfer.net.net import Net
    from effxfer.train.state import Work


@contextmanager
def lock_result(context: RunContext, leads: bool) -> Iterator[None]:
    """Lock out other processes while a stage runs.

    The work directory is removed when the stage succeeds, or fails before it has written a file.
    """
    if not leads or (context.fan_out and context.fan_out.unit):
        # The process of a unit works for the one that holds the lock.
        yield
        return
    with lock_folder(context.work_dir):
        remove_abandoned(context.work_dir)
        if not context.fan_out:
            # Not deep: beside the result may lie anything, such as a data set. A parallel run has done so before its
            # children: on another machine of a cluster, the process that writes a sibling looks dead.
            remove_abandoned(context.out.parent, deep=False)
        try:
            yield
        except Exception:  # raised again: whatever a stage raises, work that is empty is removed
            # Work that was written is kept for resuming.
            if any(file.is_file() for file in context.work_dir.glob("key-*/**/*")):
                raise
            shutil.rmtree(context.work_dir, ignore_errors=True)
            raise
        shutil.rmtree(context.work_dir, ignore_errors=True)


def cached_result(context: RunContext, key: str) -> Artifact | None:
    """Load an existing result with the same key; None if there is none, or if `force` replaces another one.

    Raises:
        SettingsError: If another result exists and `force` is not set, or if effxfer did not write the directory.
        ModelFileError: If the existing result is damaged and `force` is not set.
    """
    if not (context.out / artifact.MANIFEST).is_file():
        check_ours(context.out)
        return None
    try:
        existing = Artifact.load(context.out)
    except ModelFileError:
        if context.force:
            check_ours(context.out)
            return None
        raise
    if existing.manifest.key == key:
        remove_finished_work(context, key)
        return existing
    if context.force:
        check_ours(context.out)
        return None
    text = f"{context.out} holds a result of {existing.manifest.stage} made from other settings, data or model"
    raise SettingsError(text, "replace it with `force`, or give another `out`", code="E211")


def remove_finished_work(context: RunContext, key: str) -> None:
    """Remove the work of a process that was killed after writing its result, unless another process is at work."""
    if not context.work_dir.is_dir() or any(folder.name != f"key-{key}" for folder in context.work_dir.glob("key-*")):
        return
    with suppress(LockedError, ResourceError), lock_folder(context.work_dir):
        remove_abandoned(context.out.parent, deep=False)
        shutil.rmtree(context.work_dir, ignore_errors=True)


def open_work(context: RunContext, key: str) -> "Work":
    """Open the work directory of a key; work for other keys is removed."""
    from effxfer.train.state import Work

    for folder in context.work_dir.glob("key-*"):
        # Changed settings make it useless, and checkpoints are large.
        if folder.name != f"key-{key}":
            shutil.rmtree(folder, ignore_errors=True)
    return Work(context.work_dir / f"key-{key}", context.fan_out)


def manifest_fields(
    name: str, key: str, settings: Settings, source: Source,
    data: Iterable[tuple[Task, DataSettings]], report: Report,
) -> dict[str, Any]:  # fmt: skip
    """Return the manifest's fields that do not come from the network."""
    return {
        "key": key,
        "stage": name,
        "settings": settings.plain(),
        "parent": parent_of(source),
        "data": tuple(
            {"name": task.name, "digest": task.digest, "settings": one.plain(), "places": places_of(one)}
            for task, one in data
        ),
        "report": report,
    }


def commit(context: RunContext, net: "Net | None", fields: Mapping[str, Any], history: History = NONE) -> None:
    """Write a result: the network, the files in `result` of the work directory, the metrics, and the splits."""
    with write_directory(context.out) as scratch:
        for file in context.work_dir.glob(f"key-*/{RESULT}/*"):
            shutil.move(file, scratch / file.name)
        rows = list(training_metrics(context.work_dir))
        if rows:
            (scratch / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
        if history.records:
            write_history(scratch / SPLITS_FILE, history)
        # Last: the manifest lists the files that are there.
        artifact.save(scratch, net, **fields)


def training_metrics(work_dir: Path) -> Iterator[dict[str, Any]]:
    """Yield the metrics of each training run of a stage; of an epoch that was repeated, only the last ones."""
    # By length first: round-10 comes after round-9.
    files = sorted(work_dir.glob(f"key-*/**/{METRICS}"), key=lambda file: (len(file.parent.name), file))
    for file in files:
        part = {} if file.parent.name.startswith("key-") else {"part": file.parent.name}
        latest = {row.get("epoch", f"note {i}"): row for i, row in enumerate(read_lines(file))}
        yield from ({**part, **row} for row in latest.values())
