"""Functions about whole pipelines: run one, say how far it is, and compare what several made."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from effxfer.api.result import Reported, Result
from effxfer.api.sources import PathLike
from effxfer.errors import SettingsError, did_you_mean
from effxfer.net.backbones.local_module import import_beside
from effxfer.pipeline import leaderboard as boards
from effxfer.pipeline import run as pipelines
from effxfer.pipeline.plan import Plan, find_pipeline
from effxfer.pipeline.plan import find_preset as preset_file
from effxfer.pipeline.time_allocation import allocate_seconds
from effxfer.report import Report, Table
from effxfer.stages.runner.checks import NOT_CHECKED
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.output_dir import check_file_in


@dataclass(frozen=True, kw_only=True, repr=False)
class PipelineRun(Reported):
    """A pipeline that is done.

    Attributes:
        path: The directory of the run.
        page: Its report page.
        results: The result of each stage by the stage's name, in order.
    """

    path: Path
    page: Path
    results: Mapping[str, Result]

    def facts(self) -> dict[str, Any]:
        """Return the directory and the page."""
        return {"run": str(self.path), "page": str(self.page)}


@dataclass(frozen=True, kw_only=True, repr=False)
class Leaderboard(Reported):
    """Trained and exported models, a table for each task, the better ones first.

    Attributes:
        page: The page that was written; None if none was asked for.
    """

    page: Path | None = None

    @property
    def rows(self) -> tuple[Mapping[str, Any], ...]:
        """The models of all tasks; `model` is the directory and, of an export, the precision."""
        return tuple(row for table in self.report.tables for row in table.rows)

    def facts(self) -> dict[str, Any]:
        """Return the page, if there is one."""
        return {"page": self.page} if self.page else {}


def run(
    pipeline: PathLike = "", *, preset: str = "", data: PathLike = "", backbone: str = "", seconds: float | None = None,
    out: PathLike | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | Sequence[str] = (), command: str = "",
    on_stage: Callable[[str, Result], None] | None = None,
) -> PipelineRun:  # fmt: skip
    """Run a pipeline; what is done is skipped, what was cut off goes on.

    Args:
        pipeline: A TOML file, or the name of a shipped pipeline.
        preset: `fast`, `balanced`, `small` or `best`, instead of a pipeline.
        data: Replaces the pipeline's source of images.
        backbone: Replaces the pipeline's backbone.
        seconds: Time for the whole run; None is no limit.
        out: The directory to write; `runs/NAME` if None.
        seed: Replaces the seed of every stage.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        force: Replace results that were made from other inputs.
        settings: Changed settings, as a table by the name of the stage, `{"dense": {"fit": {"epochs": 3}}}`, or as
            texts, `["dense.fit.epochs=3"]`.
        command: What the page says it was made by.
        on_stage: Called with the directory's name and the result of each stage that is done.

    Raises:
        SettingsError: With every mistake in the pipeline and the changes.
        EffxferError: If a stage fails.
    """
    plan = _read(pipeline, preset, data, backbone, seed, settings)
    plan, shares = allocate_seconds(plan, seconds) if seconds else (plan, {})
    context = _context(plan, out, device, force)
    _import_own_networks(plan, pipeline)
    artifacts = pipelines.run(
        plan, context, lambda step, artifact: on_stage(plan.place(step), Result.of(artifact)) if on_stage else None,
        shares=shares,
    )  # fmt: skip
    page = pipelines.publish(plan, artifacts, context, command)
    results = {step.name: Result.of(artifact) for step, artifact in zip(plan.steps, artifacts, strict=True)}
    return PipelineRun(report=pipelines.summarize_run(plan, artifacts), path=context.out, page=page, results=results)


def status(
    pipeline: PathLike = "", *, preset: str = "", data: PathLike = "", backbone: str = "", seconds: float | None = None,
    out: PathLike | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | Sequence[str] = (), check: bool = False,
) -> Reported:  # fmt: skip
    """Say what of a pipeline is done, running, cut off, stale or still to do.

    Args:
        pipeline: As for `run`, which the arguments before `check` are passed to next.
        preset: Instead of a pipeline.
        backbone: Replaces the pipeline's backbone.
        seconds: Time for the whole run.
        check: Check settings, networks, data and places as well, as a run does before its first stage.

    Raises:
        EffxferError: If the pipeline, or with `check` something that it needs, is not as it should be.
    """
    plan = _read(pipeline, preset, data, backbone, seed, settings)
    plan = allocate_seconds(plan, seconds)[0] if seconds else plan
    context = _context(plan, out, device, force)
    if check:
        _import_own_networks(plan, pipeline)
        pipelines.check(plan, context)
    table = Table(title="Pipeline", rows=tuple(pipelines.statuses(plan, context)))
    return Reported(report=Report(tables=(table,), notes=(NOT_CHECKED,) if check else ()))


def leaderboard(
    folders: Sequence[PathLike], *, by: str = "accuracy", out: PathLike | None = None, command: str = ""
) -> Leaderboard:
    """Compare all trained and exported models below some folders, the better ones first.

    Args:
        folders: Directories of runs or models, which are searched at any depth.
        by: Sort by `accuracy`, `p50` or `size`.
        out: Write `leaderboard.html` into this directory; None writes nothing.
        command: What the page says it was made by.

    Raises:
        SettingsError: If there is no model directory, or no such order.
        ModelFileError: If all model directories are damaged.
    """
    orders = get_args(boards.By)
    if by not in orders:
        raise SettingsError(f"cannot sort by {by!r}{did_you_mean(by, orders)}", f"by: {', '.join(orders)}")
    file = check_file_in(Path(out), "leaderboard.html") if out else None
    report = boards.leaderboard([Path(folder) for folder in folders], by)  # type: ignore[arg-type]
    if file:
        from effxfer.benchmark.machine.facts import facts
        from effxfer.page import Section, write_page

        section = Section(title="leaderboard", report=report, command=command)
        write_page(file, title="Leaderboard", sections=[section], summary=report.tables[0], facts=facts())
    return Leaderboard(report=report, page=file)


def _read(
    pipeline: PathLike, preset: str, data: PathLike, backbone: str, seed: int | None,
    settings: Mapping[str, Any] | Sequence[str],
) -> Plan:  # fmt: skip
    """Read a pipeline or a preset.

    Raises:
        SettingsError: If both or neither are passed, or with every mistake in it.
    """
    if bool(pipeline) == bool(preset):
        raise SettingsError("give either a pipeline or `preset`", "such as `preset=balanced`")
    file = pipeline or preset_file(preset)
    changes = list(_texts(settings)) if isinstance(settings, Mapping) else settings
    return pipelines.read_plan(os.fspath(file), data=os.fspath(data), backbone=backbone, seed=seed, changes=changes)


def _import_own_networks(plan: Plan, pipeline: PathLike) -> None:
    """Import the modules that lie beside a pipeline and that it names."""
    for source in pipelines.named_in_plan(plan) if pipeline else ():
        import_beside(source, find_pipeline(os.fspath(pipeline)).resolve().parent)


def _texts(table: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Write nested tables as `KEY=VALUE`.

    >>> list(_texts({"dense": {"fit": {"epochs": 3}}, "data": {"source": "photos"}}))
    ['dense.fit.epochs=3', 'data.source="photos"']
    """
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _texts(value, f"{path}{key}.")
        else:
            yield f"{path}{key}={json.dumps(value, default=str)}"


def _context(plan: Plan, out: PathLike | None, device: str, force: bool) -> RunContext:
    return RunContext(out=Path(out) if out else Path("runs") / plan.name, device=device, force=force)
