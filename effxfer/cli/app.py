"""All commands; importing this loads nothing heavy."""

from typing import Annotated

import typer

from effxfer.cli import adapt, adapters, examine, pipelines, tickets, use
from effxfer.cli.opening import opening

OPENING = (
    pipelines.run, adapt.finetune, adapt.compete, adapt.curve, adapt.prune, adapt.qat, adapt.search, adapt.export,
    use.bench, examine.check, examine.rank,
)  # fmt: skip
app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True, rich_markup_mode=None,
    help="From a pretrained backbone and your own data to the smallest, fastest ONNX model that still does the job.",
)  # fmt: skip


def version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        from effxfer import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def common(
    show_version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks; works before and after the command.")
    ] = False,
) -> None:
    """Options of every command."""


for command in (
    pipelines.run, adapt.finetune, adapt.compete, adapt.curve, adapt.prune, adapt.qat, adapt.search, adapt.export,
    use.bench, use.predict, examine.check, examine.rank, examine.models, pipelines.status, pipelines.leaderboard,
    examine.doctor, examine.cpus,
):  # fmt: skip
    app.command()(opening(command) if command in OPENING else command)
app.add_typer(tickets.app, name="ticket")
app.add_typer(adapters.app, name="adapter")
