"""The Typer application with all commands; importing it loads no heavy library."""

from typing import Annotated

import typer

from effxfer.cli import adapt, adapters, examine, pipelines, tickets, use
from effxfer.cli.trust_option import add_trust_option

OPENING = (
    pipelines.run, adapt.finetune, adapt.continual, adapt.pretrain, adapt.clip, adapt.compete, adapt.curve,
    adapt.shrink, adapt.prune, adapt.qat, adapt.search, adapt.export, use.bench, use.report, examine.check,
    examine.rank,
)  # fmt: skip
app = typer.Typer(
    # Plain help and errors: Rich's boxes do not survive a pipe or a narrow log.
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=True, rich_markup_mode=None,
    help="Turn a pretrained backbone and your own images, texts or vectors into a small, fast, verified ONNX model.",
)  # fmt: skip


def version(requested: bool) -> None:
    """Print the version and exit."""
    if requested:
        from effxfer import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def common(
    show_version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks; allowed before or after the command.")
    ] = False,
) -> None:
    """Declare the options of every command."""


for command in (
    pipelines.run, adapt.finetune, adapt.continual, adapt.pretrain, adapt.clip, adapt.compete, adapt.curve,
    adapt.shrink, adapt.prune, adapt.qat, adapt.search, adapt.export, use.bench, use.report, use.predict,
    examine.check, examine.rank, examine.models, examine.embed, pipelines.status, pipelines.leaderboard,
    examine.doctor, examine.cpus,
):  # fmt: skip
    app.command()(add_trust_option(command) if command in OPENING else command)
app.add_typer(tickets.app, name="ticket")
app.add_typer(adapters.app, name="adapter")
