"""Run one stage: return its existing result, or resume it after an interruption."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from effxfer.artifact import Artifact
from effxfer.data.listing import Listing
from effxfer.data.settings import DataSettings
from effxfer.data.several_tables.join_tables import join_tables
from effxfer.data.task import Task
from effxfer.data.text_input import fit_input
from effxfer.errors import error_of_code
from effxfer.net.backbones.trust import trust_sources
from effxfer.report import Report
from effxfer.runtime.inputs import Input
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.vectors.vector_error import VectorError
from effxfer.runtime.vectors.vectors import Vectors
from effxfer.settings import Settings
from effxfer.stages.data.split_history import history_of
from effxfer.stages.runner.checks import (
    NOT_CHECKED,
    check_settings,
    check_source,
    check_strategies,
    strategy_input,
)
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.key import comparison_key, key_of_listings, list_data, tasks_of, with_defaults
from effxfer.stages.runner.output_dir import check_directory, check_writable, keep_out_of
from effxfer.stages.runner.result import cached_result, commit, lock_result, manifest_fields, open_work
from effxfer.stages.runner.source import Source, open_source, recipe_of, user_sources, with_width
from effxfer.stages.runner.stream_checks import check_stream
from effxfer.stages.runner.tasks import load_tasks
from effxfer.stages.settings.base import StageSettings
from effxfer.stages.stage import Stage

if TYPE_CHECKING:
    from effxfer.net.net import Net
    from effxfer.train.devices import Device


def transform(
    stage: Stage, settings: StageSettings, source: Source, data: Sequence[DataSettings], context: RunContext
) -> Artifact:
    """Run a stage that makes a network from a source.

    The stage's function is `(net, tasks, settings, *, device, work) -> (net, report)`; for a ticket it also takes
    `recipe`. It is imported only if there is work to do.

    Several tables of data are the tasks of one network, unless the stage learns them one after another.

    Args:
        stage: The stage.
        settings: Settings of the stage.
        source: Artifact, backbone, ticket, or adapter with its base network.
        data: Settings of the tasks, in the order of the stage.
        context: Output directory, device and cache.

    Returns:
        The result; the existing one if its key is equal.

    Raises:
        SettingsError: If the output directory contains another result, or files that effxfer did not write.
        LockedError: If another process is running a stage with this output directory.
    """
    check_directory(context.out)
    keep_out_of(context.out, data)
    tables = list_data(settings, source, data, context)
    listings = tasks_of(settings, source, tables)
    settings = with_defaults(settings, source, listings)
    key = key_of_listings(stage.name, settings, source, listings)
    if existing := cached_result(context, key):
        return existing
    # Only now: a result that is there can be read where nothing can be written.
    check_writable(context.out)
    check_settings(settings, recipe_of(source))
    check_strategies(settings, listings, recipe_of(source))
    check_stream(settings, source, listings)
    # Here: torch takes seconds to load, and a finished stage needs none.
    from effxfer.train.devices import pick_device, process_group

    device = pick_device(context.device)
    with (
        lock_result(context, device.leads),
        process_group(device),
        trust_sources(*user_sources(source), *named_networks(settings)),
    ):
        if stage.distributed:
            execute(stage, settings, source, data, tables, context, key, device)
        elif device.leads:
            # The first process runs it alone; the others wait where the group ends.
            execute(stage, settings, source, data, tables, context, key, replace(device, world=1))
    return Artifact.load(context.out)


def execute(
    stage: Stage, settings: StageSettings, source: Source, data: Sequence[DataSettings], tables: Sequence[Listing],
    context: RunContext, key: str, device: "Device",
) -> None:  # fmt: skip
    """Run a stage and write its result, unless another process has written it since `transform` checked."""
    # Looked at again under the lock. Not with several processes: if one saw it and
    # another did not, the latter would wait.
    if device.world == 1 and cached_result(context, key):
        return
    began, listings = time.monotonic(), tasks_of(settings, source, tables)
    net, notes = open_source(with_width(source, listings), training_texts(listings))
    stage.check(net, settings)
    if listings:
        net.input = fit_input(net.input, listings[-1])
        net.input = strategy_input(net, settings, listings[-1], recipe_of(source))
    input = sized_input(net.input, settings.image_size)
    history = history_of(source, settings)
    loaded = load_tasks(data, tables, input, context, history, in_time=settings.in_time)
    if isinstance(net.input, Vectors):
        net.input = loaded[-1].input  # standardised by the training split, which is known only now
    tasks = loaded if settings.in_time else as_learned(net, loaded)
    if len(listings) < len(tables):
        tasks = [join_tables(loaded)]
    recipe = recipe_of(source)
    ticket = {} if recipe is None else {"recipe": recipe}
    # Opening and decoding come out of the stage's own time.
    timed = settings.with_extra_seconds(context.extra_seconds - (time.monotonic() - began))
    net, report = stage.function()(net, tasks, timed, device=device, work=open_work(context, key), **ticket)
    notes = tuple(dict.fromkeys((*notes, *(note for task in tasks for note in task.notes))))
    if stage.kind == "files":
        net.memory = None  # it may hold people's examples, which do not leave with a file
    pairs = zip(loaded, data, strict=True)
    fields = manifest_fields(stage.name, key, settings, source, pairs, Report(notes=notes) + report)
    if device.leads:
        commit(context, net, fields, history.with_records(record for task in loaded for record in task.records))


def as_learned(net: "Net", tasks: Sequence[Task]) -> Sequence[Task]:
    """Return the tasks of a network that learned them in time as one, with labels in the order of its head."""
    grown = any(edit["kind"] == "grow_head" for edit in net.edits)
    if not tasks or not (grown or net.memory):
        return tasks
    # Here: it loads torch.
    from effxfer.stages.train.continual.stream import align_task, join_tasks

    if any(not set(task.classes) <= set(net.classes) for task in tasks):
        return tasks  # what does not fit the head is for the stage to refuse, or to give a new one
    return [join_tasks([align_task(task, net.classes) for task in tasks])]


def sized_input(input: Input, size: int | None) -> Input:
    """Return an input at the size of a stage's settings; None leaves it as it is.

    Raises:
        SettingsError: If it has no such size.
    """
    try:
        return input.with_size(size or input.size)
    except (TextError, VectorError) as error:
        raise error_of_code(error.problem, error.hint, error.code) from None


def training_texts(listings: Sequence[Listing]) -> Iterator[str]:
    """Yield the training texts of listings, one after the other; of pairs and lists of words all parts."""
    for listing in listings:
        for item in listing.split("train"):
            text = listing.texts.get(item.path, ())
            yield from (text,) if isinstance(text, str) else text


def compare(
    name: str, load: Callable[[], Callable[..., Report]], settings: Settings, models: Mapping[str, Artifact],
    context: RunContext, data: Sequence[str] = (),
) -> Artifact:  # fmt: skip
    """Run a stage that measures several models; its directory contains a manifest and no network.

    Args:
        name: Name of the stage.
        load: Function that imports the stage's function, `(artifacts by name, settings) -> report`.
        settings: Settings of the stage.
        models: Models by name; the first one is the baseline.
        context: Output directory; a comparison runs on the CPU.
        data: Keys of the listings that the function reads besides the models.
    """
    check_directory(context.out)
    key = comparison_key(name, settings, models, data)
    if existing := cached_result(context, key):
        return existing
    check_writable(context.out)
    from effxfer.train.devices import pick_device, process_group

    # Exported files are measured in ONNX Runtime on the CPU.
    device = pick_device("cpu")
    with lock_result(context, device.leads), process_group(device):
        if device.leads:
            commit(context, None, comparison_fields(name, key, settings, models, load()(models, settings)))
    return Artifact.load(context.out)


def comparison_fields(
    name: str, key: str, settings: Settings, models: Mapping[str, Artifact], report: Report
) -> dict[str, Any]:
    """Return the manifest's fields of a comparison; architecture and data are those of the first model."""
    baseline = next(iter(models.values())).manifest
    described = {k: getattr(baseline, k) for k in ("backbone", "edits", "preprocess", "classes", "data")}
    parent = [model.manifest.key for model in models.values()]
    return described | {"key": key, "stage": name, "settings": settings.plain(), "parent": parent, "report": report}


def preview(
    stage: Stage, settings: StageSettings, source: Source, data: Sequence[DataSettings], context: RunContext
) -> dict[str, Any]:
    """Return what `transform` would do, as plain values, after all checks that need no network and no images.

    Raises:
        EffxferError: If a check of the settings, data, networks or output directory fails.
    """
    from effxfer.train.devices import pick_device

    check_directory(context.out)
    check_writable(context.out)
    keep_out_of(context.out, data)
    # Only to see whether it exists.
    pick_device(context.device)
    check_settings(settings, recipe_of(source))
    check_source(source)
    tables = list_data(settings, source, data, context)
    listings = tasks_of(settings, source, tables)
    settings = with_defaults(settings, source, listings)
    check_strategies(settings, listings, recipe_of(source))
    check_stream(settings, source, listings)
    key = key_of_listings(stage.name, settings, source, listings)
    counts = [{split: len(one.split(split)) for split in ("train", "val", "test")} for one in tables]
    return {"stage": stage.name, "done": cached_result(context, key) is not None, "key": key, "out": str(context.out),
            "settings": settings.plain(), "images": counts, "note": NOT_CHECKED}  # fmt: skip


def named_networks(settings: StageSettings) -> list[str]:
    """Return the sources of the additional networks that a stage's settings name."""
    return [backbone.source for backbones in settings.networks.values() for backbone in backbones]
