"""Run one stage from a model to a model directory: skip it if it is done, resume it if it was cut off."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effxfer import artifact, progress
from effxfer.artifact import Artifact
from effxfer.data.history import NONE, SPLITS_FILE, History, write_history
from effxfer.data.load import load, scan
from effxfer.data.settings import DataSettings
from effxfer.data.task import Task
from effxfer.errors import LockedError, ModelFileError, ResourceError, SettingsError
from effxfer.files import locked, read_lines, sweep, write_directory
from effxfer.net.backbones.trust import naming
from effxfer.net.settings import BackboneSettings
from effxfer.prune.tickets.file import TicketFile
from effxfer.report import Report
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.settings import Settings, build
from effxfer.stages.data.split_history import found_again, history_of, places_of
from effxfer.stages.runner.checks import NOT_CHECKED, OTHERS, check_backbone, check_settings
from effxfer.stages.runner.output_dir import check_directory, check_ours, check_writable, keep_out_of
from effxfer.stages.runner.source import Adapted, Source, named_by, open_source, parent_of
from effxfer.stages.settings.common import METRICS

if TYPE_CHECKING:
    from effxfer.net.net import Net
    from effxfer.train.devices import Device
    from effxfer.train.state import Work

RESULT = "result"
TOGETHER = (
    "curve", "finetune", "prune channels", "prune gradual", "prune lottery", "prune structured", "qat", "ticket",
)  # fmt: skip
Find = Callable[[], Callable[..., "tuple[Net, Report]"]]


@dataclass(frozen=True, kw_only=True)
class Where:
    """What a stage's result does not depend on.

    Attributes:
        out: The model directory to write.
        device: As `devices.pick` takes it.
        cache: Where decoded images are kept; None is the user's cache directory.
        force: Replace a result that was made with other inputs.
        spare: Seconds that a stage with a time of its own may take beyond it; negative where steps before it were late.
    """

    out: Path
    device: str = "auto"
    cache: Path | None = None
    force: bool = False
    spare: float = 0.0

    def __post_init__(self) -> None:
        if self.out.name in ("", "..") or (os.path.islink(self.out) and self.out.is_dir()):  # noqa: PTH114 (never raises)
            object.__setattr__(self, "out", self.out.resolve())

    @property
    def work(self) -> Path:
        """Where unfinished work is kept: beside the result, under a hidden name."""
        return self.out.parent / f".work-{self.out.name}"


def transform(
    name: str, find: Find, settings: Settings, source: Source, data: Sequence[DataSettings], where: Where
) -> Artifact:
    """Run a stage that makes a network from a network.

    Args:
        name: The stage's name, for its key and manifest.
        find: Imports the stage's function, `(net, tasks, settings, *, device, work) -> (net, report)`, from a ticket
            with `recipe` as well; only called if there is something to do, so that nothing heavy is loaded to see that
            a stage is done.
        settings: Of the stage.
        source: An artifact, a backbone or a ticket to start from.
        data: The tasks, in the order the stage takes them.
        where: Output directory and machine.

    Returns:
        The result; the one already there, if its key is equal.

    Raises:
        SettingsError: If another result, or something that effxfer did not write, is in the way.
        LockedError: If another process works on it.
    """
    check_directory(where.out)
    keep_out_of(where.out, data)
    key = key_of(name, settings, source, data, where)
    done = finished(where, key)
    if done:
        return done
    check_writable(where.out)
    check_settings(settings, recipe_of(source))
    from effxfer.train.devices import pick, together

    device = pick(where.device)
    with held(where, device.leads), together(device), naming(*named_by(source), *named_in(settings)):
        if name in TOGETHER:
            produce(name, find, settings, source, data, where, key, device)
        elif device.leads:
            produce(name, find, settings, source, data, where, key, replace(device, world=1))
    return Artifact.load(where.out)


def produce(
    name: str, find: Find, settings: Settings, source: Source, data: Sequence[DataSettings], where: Where, key: str,
    device: "Device",
) -> None:  # fmt: skip
    """Run a stage and write its result, unless it was done while this process waited; arguments as in `transform`."""
    if device.world == 1 and finished(where, key):
        return
    from effxfer.stages.train.adapter_training import refuse

    began = time.monotonic()
    net, notes = open_source(source)
    refuse(name, net, settings)
    side = getattr(settings, "size", None) or net.preprocess.size
    history = history_of(source, settings)
    tasks = [load_task(d, replace(net.preprocess, size=side), where, history) for d in data]
    recipe = recipe_of(source)
    told = {} if recipe is None else {"recipe": recipe}
    held = in_time(settings, where.spare - (time.monotonic() - began))
    net, report = find()(net, tasks, held, device=device, work=unfinished(where, key), **told)
    notes = tuple(dict.fromkeys((*notes, *(note for task in tasks for note in task.notes))))
    facts = about(name, key, settings, source, zip(tasks, data, strict=True), Report(notes=notes) + report)
    if device.leads:
        commit(where, net, facts, history.after(record for task in tasks for record in task.records))


def in_time(settings: Settings, more: float) -> Settings:
    """Give a stage that is held to a time `more` seconds, or less if negative: a tenth of its own at least."""
    seconds = getattr(settings, "seconds", None)
    if seconds is None:
        return settings
    return settings.model_copy(update={"seconds": max(seconds + more, seconds / 10)})


def compare(
    name: str, find: Callable[[], Callable[..., Report]], settings: Settings, made: Mapping[str, Artifact], where: Where
) -> Artifact:
    """Run a stage that measures several models; its directory holds a manifest and no network.

    Args:
        name: The stage's name.
        find: Imports the stage's function, `(artifacts by name, settings) -> report`.
        settings: Of the stage.
        made: What to compare; the first one is the baseline.
        where: As in `transform`.
    """
    check_directory(where.out)
    key = compare_key(name, settings, made)
    done = finished(where, key)
    if done:
        return done
    check_writable(where.out)
    from effxfer.train.devices import pick, together

    device = pick("cpu")
    with held(where, device.leads), together(device):
        if device.leads:
            commit(where, None, compared(name, key, settings, made, find()(made, settings)))
    return Artifact.load(where.out)


def compared(name: str, key: str, settings: Settings, made: Mapping[str, Artifact], report: Report) -> dict[str, Any]:
    """The manifest's facts of a comparison: it is about the first of the models."""
    first = next(iter(made.values())).manifest
    described = {k: getattr(first, k) for k in ("backbone", "edits", "preprocess", "classes", "data")}
    parent = [one.manifest.key for one in made.values()]
    return described | {"key": key, "stage": name, "settings": settings.plain(), "parent": parent, "report": report}


def compare_key(name: str, settings: Settings, made: Mapping[str, Artifact]) -> str:
    """Digest everything that a comparison is about."""
    return artifact.key_of(name, settings.plain(), list(made), [one.manifest.key for one in made.values()])


def preview(
    name: str, settings: Settings, source: Source, data: Sequence[DataSettings], where: Where
) -> dict[str, Any]:
    """What `transform` would do, as plain values, after all checks that need no network and no images.

    Raises:
        EffxferError: As `transform` does for settings, data, networks and places that cannot be.
    """
    from effxfer.train.devices import pick

    check_directory(where.out)
    check_writable(where.out)
    keep_out_of(where.out, data)
    pick(where.device)
    check_settings(settings, recipe_of(source))
    check_source(source)
    key = key_of(name, settings, source, data, where)
    listings = [scan(d, cache=where.cache, history=history_of(source, settings)) for d in data]
    counts = [{n: len(found.split(n)) for n in ("train", "val", "test")} for found in listings]
    return {"stage": name, "done": finished(where, key) is not None, "key": key, "out": str(where.out),
            "settings": settings.plain(), "images": counts, "note": NOT_CHECKED}  # fmt: skip


def recipe_of(source: Source) -> Mapping[str, Any] | None:
    """How a ticket was trained; None for another source."""
    return source.facts.recipe if isinstance(source, TicketFile) else None


def check_source(source: Source) -> None:
    """Make sure that what a stage starts from is there, as far as that can be seen without opening it."""
    base = source.base if isinstance(source, Adapted) else source
    if isinstance(base, BackboneSettings):
        check_backbone(base)


def data_for(source: Source, table: Mapping[str, Any]) -> list[DataSettings]:
    """The data of a single stage: what `table` says; without a source, what the artifact was made with.

    Raises:
        SettingsError: If neither names any.
    """
    if "source" in table:
        return [build(DataSettings, table, "data")]
    made = source.manifest.data if isinstance(source, Artifact) else ()
    known = [found_again(one["settings"], one.get("places", {})) for one in made]
    if not known:
        raise SettingsError("no data given", "give --data FOLDER, a .csv or .parquet table, or digits")
    return [build(DataSettings, {**one, **table}, "data") for one in known]


def key_of(name: str, settings: Settings, source: Source, data: Sequence[DataSettings], where: Where) -> str:
    """Digest everything that determines a stage's result; decodes nothing and loads no torch."""
    history = history_of(source, settings)
    listings = [scan(d, cache=where.cache, history=history) for d in data]
    return artifact.key_of(name, identity(settings), [found.key for found in listings], parent_of(source))


def identity(settings: Settings) -> dict[str, Any]:
    """What determines a stage's result of its settings: their values, other networks by what is in their files."""
    plain, teacher = settings.plain(), getattr(settings, "teacher", None)
    for name in OTHERS:
        if several := getattr(settings, name, ()):
            plain[name] = [artifact.identity(other) for other in several]
    if teacher and teacher.source:
        plain["teacher"]["source"] = artifact.identity(BackboneSettings(source=teacher.source))
    return plain


def named_in(settings: Settings) -> list[str]:
    """Give the sources of other networks that the user's settings of a stage name."""
    return [other.source for name in OTHERS for other in getattr(settings, name, ())]


def about(
    name: str, key: str, settings: Settings, source: Source,
    data: Iterable[tuple[Task, DataSettings]], report: Report,
) -> dict[str, Any]:  # fmt: skip
    """The manifest's facts that do not come from the network."""
    return {
        "key": key,
        "stage": name,
        "settings": settings.plain(),
        "parent": parent_of(source),
        "data": tuple(
            {"name": task.name, "digest": task.digest, "settings": d.plain(), "places": places_of(d)}
            for task, d in data
        ),
        "report": report,
    }


@contextmanager
def held(where: Where, leads: bool) -> Iterator[None]:
    """Keep other processes out while a stage runs; its work goes when it succeeds, or fails before it made any."""
    if not leads:
        yield
        return
    with locked(where.work):
        sweep(where.work)
        sweep(where.out.parent, deep=False)
        try:
            yield
        except Exception:
            if any(file.is_file() for file in where.work.glob("key-*/**/*")):
                raise
            shutil.rmtree(where.work, ignore_errors=True)
            raise
        shutil.rmtree(where.work, ignore_errors=True)


def commit(where: Where, net: "Net | None", facts: Mapping[str, Any], history: History = NONE) -> None:
    """Write a result, with the files that the stage left in its work directory's `result`, its metrics and splits."""
    with write_directory(where.out) as scratch:
        for left in where.work.glob(f"key-*/{RESULT}/*"):
            shutil.move(left, scratch / left.name)
        rows = list(metrics(where.work))
        if rows:
            (scratch / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
        if history.records:
            write_history(scratch / SPLITS_FILE, history)
        artifact.save(scratch, net, **facts)


def metrics(work: Path) -> Iterator[dict[str, Any]]:
    """Collect what each training of a stage noted; of an epoch that was done again after a kill, the last account."""
    files = sorted(work.glob(f"key-*/**/{METRICS}"), key=lambda file: (len(file.parent.name), file))
    for file in files:
        part = {} if file.parent.name.startswith("key-") else {"part": file.parent.name}
        latest = {row.get("epoch", f"note {i}"): row for i, row in enumerate(read_lines(file))}
        yield from ({**part, **row} for row in latest.values())


def finished(where: Where, key: str) -> Artifact | None:
    """Give the result that is already there, if it was made from the same inputs.

    Raises:
        SettingsError: If it was made from others and may not be replaced, or effxfer did not write it.
        ModelFileError: If it was altered.
    """
    if not (where.out / artifact.MANIFEST).is_file():
        check_ours(where.out)
        return None
    try:
        there = Artifact.load(where.out)
    except ModelFileError:
        if where.force:
            check_ours(where.out)
            return None
        raise
    if there.manifest.key == key:
        tidy(where, key)
        return there
    if where.force:
        check_ours(where.out)
        return None
    text = f"{where.out} holds a {there.manifest.stage} result made from other settings, data or model"
    raise SettingsError(text, "replace it with --force, or give another --out", code="E211")


def tidy(where: Where, key: str) -> None:
    """Remove what a process that was killed when it had written its result left of the work, if nobody works now."""
    if not where.work.is_dir() or any(other.name != f"key-{key}" for other in where.work.glob("key-*")):
        return
    with suppress(LockedError, ResourceError), locked(where.work):
        sweep(where.out.parent, deep=False)
        shutil.rmtree(where.work, ignore_errors=True)


def unfinished(where: Where, key: str) -> "Work":
    """Give the work directory of a key; what was begun for another key is thrown away."""
    from effxfer.train.state import Work

    for other in where.work.glob("key-*"):
        if other.name != f"key-{key}":
            shutil.rmtree(other, ignore_errors=True)
    return Work(where.work / f"key-{key}")


def key_of_work(work: "Work") -> str:
    """Give the key of the result that `work` is for; empty if it keeps nothing."""
    return work.path.name.removeprefix("key-") if work.path else ""


def load_task(settings: DataSettings, preprocess: Preprocess, where: Where, history: History = NONE) -> Task:
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

        task = load(settings, preprocess, cache=where.cache, progress=count, history=history)
    return replace(task, decode=lambda other: load_task(settings, other, where, history))
