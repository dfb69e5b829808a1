"""Commands about whole pipelines: run, status, leaderboard."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from effxfer.cli.options import Budget, Data, Device, DryRun, Force, Json, Seed, Set, seconds_of

if TYPE_CHECKING:
    from effxfer.api import Result

File = Annotated[str, typer.Argument(help="A TOML file, or the name of a built-in pipeline.")]
Preset = Annotated[str, typer.Option(help="Instead of a pipeline: fast, balanced, small or best.")]
Backbone = Annotated[str, typer.Option(help="Replaces the pipeline's backbone.")]
Place = Annotated[Path | None, typer.Option(help="Output directory.  [default: runs/NAME]")]


def run(
    file: File = "", data: Data = "", backbone: Backbone = "", preset: Preset = "", budget: Budget = None,
    out: Place = None, seed: Seed = None, changes: Set = None, device: Device = "auto", force: Force = False,
    dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Run a pipeline, or resume it.

    Finished stages are skipped; interrupted stages are resumed.
    """
    import effxfer
    from effxfer.api import status as status_of
    from effxfer.cli import show
    from effxfer.cli.command_line import reproduce

    plan: dict[str, Any] = {
        "preset": preset, "data": data, "backbone": backbone, "seconds": seconds_of(budget), "out": out, "seed": seed,
        "device": device, "force": force, "settings": changes or (),
    }  # fmt: skip
    if dry_run:
        show.result(status_of(file, check=True, **plan), as_json)
        return
    with show.progress():
        finished = effxfer.run(file, command=reproduce(), on_stage=_announce, **plan)
    show.result(finished, as_json)


def _announce(stage: str, result: "Result") -> None:
    """Print a finished stage and its accuracies to stderr."""
    from effxfer.cli import show

    rows = [row for row in result.report.rows if row.name.startswith("accuracy/")]
    accuracies = ", ".join(f"{row.name} {row.value:.2f} {row.unit}" for row in rows)
    show.say(f"done {stage}: {accuracies or f'{len(result.report.rows)} measurements'}")


def status(
    file: File, data: Data = "", backbone: Backbone = "", out: Place = None, seed: Seed = None, changes: Set = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show which stages of a pipeline are done, running or pending."""
    from effxfer.api import status as status_of
    from effxfer.cli import show

    state = status_of(file, data=data, backbone=backbone, out=out, seed=seed, settings=changes or ())
    show.result(state, as_json)


def leaderboard(
    folders: Annotated[list[Path], typer.Argument(help="Directories of runs or models.")],
    by: Annotated[str, typer.Option(help="Sort by accuracy, p50 or size.")] = "accuracy",
    out: Annotated[Path | None, typer.Option(help="Write leaderboard.html into this directory.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Compare all trained and exported models, best first."""
    from effxfer.cli import show
    from effxfer.cli.command_line import reproduce
    from effxfer.errors import SettingsError, did_you_mean
    from effxfer.pipeline.leaderboard import ORDER
    from effxfer.pipeline.leaderboard import leaderboard as board
    from effxfer.stages.runner.output_dir import check_file_in

    if by not in ORDER:
        raise SettingsError(f"cannot sort by {by!r}{did_you_mean(by, ORDER)}", f"by: {', '.join(ORDER)}")
    file = check_file_in(out, "leaderboard.html") if out else None
    report, facts = board(folders, by), {}  # type: ignore[arg-type]
    if file:
        from effxfer.benchmark.machine.facts import facts as machine
        from effxfer.page import Section, write_page

        section = Section(title="leaderboard", report=report, command=reproduce())
        facts["page"] = write_page(
            file, title="Leaderboard", sections=[section], summary=report.tables[0], facts=machine()
        )  # fmt: skip
    show.report(report, as_json, **facts)
