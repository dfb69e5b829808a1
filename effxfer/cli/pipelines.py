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
Jobs = Annotated[int, typer.Option(help="Run this many independent stages side by side.")]
Cluster = Annotated[str, typer.Option(help="Run the stages on a Ray cluster: auto, or ray://HOST:10001.")]
Place = Annotated[Path | None, typer.Option(help="Output directory.  [default: runs/NAME]")]


def run(
    file: File = "", data: Data = "", backbone: Backbone = "", preset: Preset = "", budget: Budget = None,
    out: Place = None, seed: Seed = None, changes: Set = None, device: Device = "auto", force: Force = False,
    jobs: Jobs = 1, cluster: Cluster = "", dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Run a pipeline, or resume it.

    Finished stages are skipped; interrupted stages are resumed.
    """
    import effxfer
    from effxfer.cli import show
    from effxfer.cli.command_line import reproduce

    plan: dict[str, Any] = {
        "preset": preset, "data": data, "backbone": backbone, "seconds": seconds_of(budget), "out": out, "seed": seed,
        "device": device, "force": force, "settings": changes or (),
    }  # fmt: skip
    if dry_run:
        show.result(effxfer.status(file, check=True, **plan), as_json)
        return
    with show.progress():
        finished = effxfer.run(file, command=reproduce(), on_stage=_announce, jobs=jobs, cluster=cluster, **plan)
    show.result(finished, as_json)


def _announce(stage: str, result: "Result") -> None:
    """Print a finished stage and its scores to stderr."""
    from effxfer.cli import show

    scores = ", ".join(f"{row.name} {row.value:.2f} {row.unit}" for row in result.report.scores)
    show.say(f"done {stage}: {scores or f'{len(result.report.rows)} measurements'}")


def status(
    file: File, data: Data = "", backbone: Backbone = "", out: Place = None, seed: Seed = None, changes: Set = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show which stages of a pipeline are done, running or pending."""
    import effxfer
    from effxfer.cli import show

    state = effxfer.status(file, data=data, backbone=backbone, out=out, seed=seed, settings=changes or ())
    show.result(state, as_json)


def leaderboard(
    folders: Annotated[list[Path], typer.Argument(help="Directories of runs or models.")],
    by: Annotated[str, typer.Option(help="Sort by accuracy, p50 or size.")] = "accuracy",
    out: Annotated[Path | None, typer.Option(help="Write leaderboard.html into this directory.")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Compare all trained and exported models, best first."""
    import effxfer
    from effxfer.cli import show
    from effxfer.cli.command_line import reproduce

    show.result(effxfer.leaderboard(folders, by=by, out=out, command=reproduce()), as_json)
