"""Commands about whole pipelines: run, status, leaderboard."""

from pathlib import Path
from typing import Annotated

import typer

from effxfer.cli.options import Budget, Data, Device, DryRun, Force, Json, Seed, Set, duration

File = Annotated[str, typer.Argument(help="A TOML file, or the name of a shipped pipeline.")]
Preset = Annotated[str, typer.Option(help="fast, balanced, small or best; instead of a pipeline.")]
Backbone = Annotated[str, typer.Option(help="Replaces the pipeline's backbone.")]
Place = Annotated[Path | None, typer.Option(help="Where to write.  [default: runs/NAME]")]


def run(
    file: File = "", data: Data = "", backbone: Backbone = "", preset: Preset = "", budget: Budget = None,
    out: Place = None, seed: Seed = None, changes: Set = None, device: Device = "auto", force: Force = False,
    dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Run a pipeline; what is done is skipped, what was cut off goes on."""
    from effxfer.cli import reproduce, show
    from effxfer.net.backbones.local_module import import_beside
    from effxfer.pipeline import run as pipeline
    from effxfer.pipeline.plan import locate
    from effxfer.pipeline.time_allocation import allot
    from effxfer.stages.runner.checks import NOT_CHECKED
    from effxfer.stages.runner.context import RunContext

    plan = pipeline.read_plan(_file(file, preset), data=data, backbone=backbone, seed=seed, changes=changes or ())
    plan, shares = allot(plan, duration(budget)) if budget else (plan, {})
    context = RunContext(out=out or Path("runs") / plan.name, device=device, force=force)
    for source in pipeline.named_in_plan(plan):
        import_beside(source, locate(_file(file, preset)).resolve().parent)
    if dry_run:
        pipeline.check(plan, context)
        _statuses(plan, context, as_json, NOT_CHECKED)
        return
    with show.progress():
        made = pipeline.run(
            plan, context, lambda step, one: show.say(f"done {plan.place(step)}: {_headline(one)}"), shares=shares
        )  # fmt: skip
    page = pipeline.publish(plan, made, context, reproduce())
    facts = {"run": str(context.out), "page": str(page)}
    show.result(pipeline.conclusion(plan, made), as_json, **facts)


def _file(file: str, preset: str) -> str:
    """The pipeline that is meant: a file, or a preset.

    Raises:
        SettingsError: If there are both or neither.
    """
    from effxfer.errors import SettingsError
    from effxfer.pipeline import plan

    if bool(file) == bool(preset):
        raise SettingsError("give either a pipeline or --preset", "such as `effxfer run --preset balanced`")
    return file or str(plan.preset(preset))


def status(
    file: File, data: Data = "", backbone: Backbone = "", out: Place = None, seed: Seed = None, changes: Set = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Say what of a pipeline is done, running, cut off, stale or still to do."""
    from effxfer.pipeline import run as pipeline
    from effxfer.stages.runner.context import RunContext

    plan = pipeline.read_plan(file, data=data, backbone=backbone, seed=seed, changes=changes or ())
    _statuses(plan, RunContext(out=out or Path("runs") / plan.name), as_json)


def leaderboard(
    folders: Annotated[list[Path], typer.Argument(help="Directories of runs or models.")],
    by: Annotated[str, typer.Option(help="Order by accuracy, p50 or size.")] = "accuracy",
    out: Annotated[Path | None, typer.Option(help="Write leaderboard.html into this directory.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Put all that was trained and exported side by side, the better ones first."""
    from effxfer.cli import reproduce, show
    from effxfer.errors import SettingsError, did_you_mean
    from effxfer.pipeline.leaderboard import ORDER
    from effxfer.pipeline.leaderboard import leaderboard as board
    from effxfer.stages.runner.output_dir import check_file_in

    if by not in ORDER:
        raise SettingsError(f"cannot order by {by!r}{did_you_mean(by, ORDER)}", f"by: {', '.join(ORDER)}")
    file = check_file_in(out, "leaderboard.html") if out else None
    report, facts = board(folders, by), {}  # type: ignore[arg-type]
    if file:
        from effxfer.benchmark.machine.facts import facts as machine
        from effxfer.page import Section, write_page

        section = Section(title="leaderboard", report=report, command=reproduce())
        facts["page"] = write_page(
            file, title="Leaderboard", sections=[section], summary=report.tables[0], facts=machine()
        )  # fmt: skip
    show.result(report, as_json, **facts)


def _statuses(plan: "object", context: "object", as_json: bool, *notes: str) -> None:
    from effxfer.cli import show
    from effxfer.pipeline import run as pipeline
    from effxfer.report import Report, Table

    rows = pipeline.statuses(plan, context)  # type: ignore[arg-type]
    show.result(Report(tables=(Table(title="Pipeline", rows=tuple(rows)),), notes=notes), as_json)


def _headline(one: "object") -> str:
    report = one.manifest.report  # type: ignore[attr-defined]
    rows = [row for row in report.rows if row.name.startswith("accuracy/")]
    return ", ".join(f"{row.name} {row.value:.2f} {row.unit}" for row in rows) or f"{len(report.rows)} measurements"
