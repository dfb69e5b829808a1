"""Functions for pipelines: run one, show its state, and compare the models of several runs."""

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
from effxfer.pipeline.presets import find_preset
from effxfer.pipeline.time_allocation import allocate_seconds
from effxfer.report import Report, Table
from effxfer.stages.runner.checks import NOT_CHECKED
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.output_dir import check_file_in


@dataclass(frozen=True, kw_only=True, repr=False)
class PipelineRun(Reported):
    """A completed run of a pipeline.

    Attributes:
        path: Directory of the run.
        page: Report page of the run, an HTML file.
        results: Results of the stages by name, in order.
    """

    path: Path
    page: Path
    results: Mapping[str, Result]

    def facts(self) -> dict[str, Any]:
        """Return the paths of the directory and the page."""
        return {"run": str(self.path), "page": str(self.page)}


@dataclass(frozen=True, kw_only=True, repr=False)
class Leaderboard(Reported):
    """Trained and exported models, one table per task, best model first.

    Attributes:
        page: Path of the report page; None without `out`.
    """

    page: Path | None = None

    @property
    def rows(self) -> tuple[Mapping[str, Any], ...]:
        """Rows of all tasks; `model` is the directory and, for an export, the precision."""
        return tuple(row for table in self.report.tables for row in table.rows)

    def facts(self) -> dict[str, Any]:
        """Return the path of the page, if there is one."""
        return {"page": self.page} if self.page else {}


def run(
    pipeline: PathLike = "", *, preset: str = "", data: PathLike = "", backbone: str = "", seconds: float | None = None,
    out: PathLike | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | Sequence[str] = (), command: str = "",
    on_stage: Callable[[str, Result], None] | None = None, jobs: int = 1, cluster: str = "",
) -> PipelineRun:  # fmt: skip
    """Run a pipeline: skip completed stages, and resume an interrupted one.

    Args:
        pipeline: Path of a TOML file, or the name of a shipped pipeline.
        preset: `fast`, `balanced`, `small` or `best`, instead of a pipeline; texts have their own.
        data: Source of the images or texts, instead of the pipeline's.
        backbone: Source of the backbone, instead of the pipeline's.
        seconds: Time limit of the whole run; None for no limit.
        out: Directory to write; `runs/NAME` if None.
        seed: Random seed of all stages, instead of the pipeline's.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        force: Whether to replace results of other inputs.
        settings: Changes of settings: a nested dictionary by the name of the stage,
            `{"dense": {"fit": {"epochs": 3}}}`, or a sequence of strings, `["dense.fit.epochs=3"]`.
        command: Command to show on the report page; empty for none.
        on_stage: Called with the directory's name and the result of each completed stage.
        jobs: How many independent stages run side by side, each in a process with its share of the cores.
        cluster: Run the stages on a Ray cluster: `auto` or `ray://HOST:10001`; empty for this machine.

    Returns:
        The run, with the report page and the result of each stage.

    Raises:
        SettingsError: If the pipeline or a change is wrong; the message lists all mistakes.
        EffxferError: If a stage fails.

    Examples:
        >>> done = ex.run(preset="balanced", data="photos", backbone="timm:mobilenetv2_100", seconds=1800)
        >>> print(done.page, done.results["dense"].accuracy)
    """
    plan = _read(pipeline, preset, data, backbone, seed, settings)
    plan, shares = allocate_seconds(plan, seconds) if seconds else (plan, {})
    context = _context(plan, out, device, force)
    _import_own_networks(plan, pipeline)
    artifacts = pipelines.run(
        plan, context, lambda step, artifact: on_stage(plan.place(step), Result.of(artifact)) if on_stage else None,
        shares=shares, jobs=jobs, cluster=cluster,
    )  # fmt: skip
    page = pipelines.publish(plan, artifacts, context, command)
    results = {step.name: Result.of(artifact) for step, artifact in zip(plan.steps, artifacts, strict=True)}
    return PipelineRun(report=pipelines.summarize_run(plan, artifacts), path=context.out, page=page, results=results)


def status(
    pipeline: PathLike = "", *, preset: str = "", data: PathLike = "", backbone: str = "", seconds: float | None = None,
    out: PathLike | None = None, seed: int | None = None, device: str = "auto", force: bool = False,
    settings: Mapping[str, Any] | Sequence[str] = (), check: bool = False,
) -> Reported:  # fmt: skip
    """Return the state of each stage of a pipeline: done, running, cut off, stale, altered or to do.

    The other arguments are those of `run`.

    Args:
        pipeline: Path of a TOML file, or the name of a shipped pipeline.
        preset: `fast`, `balanced`, `small` or `best`, instead of a pipeline; texts have their own.
        backbone: Source of the backbone, instead of the pipeline's.
        seconds: Time limit of the whole run; None for no limit.
        check: Whether to check settings, networks, data and the output directory too, like a run before its first
            stage.

    Returns:
        A report with a table of the stages.

    Raises:
        EffxferError: If the pipeline is wrong, or a check fails.

    Examples:
        >>> print(ex.status(preset="balanced", data="photos", backbone="timm:mobilenetv2_100"))
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
    """Compare all trained and exported models in some folders.

    Args:
        folders: Directories of runs or models, which are searched recursively.
        by: Order of the models: `accuracy`, `p50` or `size`.
        out: Directory for the report page `leaderboard.html`; None writes no page.
        command: Command to show on the page; empty for none.

    Returns:
        The leaderboard, with one table per task, best model first.

    Raises:
        SettingsError: If there is no model directory, or no such order.
        ModelFileError: If all model directories are damaged.

    Examples:
        >>> board = ex.leaderboard(["runs"], by="p50", out="runs/board")
        >>> board.rows[0]["model"]
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
        SettingsError: If both or neither are passed, or the pipeline is wrong.
    """
    if bool(pipeline) == bool(preset):
        raise SettingsError("give either a pipeline or `preset`", "such as `preset=balanced`")
    changes = list(_texts(settings)) if isinstance(settings, Mapping) else settings
    file = pipeline or find_preset(preset, os.fspath(data), changes)
    return pipelines.read_plan(os.fspath(file), data=os.fspath(data), backbone=backbone, seed=seed, changes=changes)


def _import_own_networks(plan: Plan, pipeline: PathLike) -> None:
    """Import the modules in a pipeline's folder that define its networks."""
    for source in pipelines.named_in_plan(plan) if pipeline else ():
        import_beside(source, find_pipeline(os.fspath(pipeline)).resolve().parent)


def _texts(table: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the values of nested tables as `KEY=VALUE`.

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
