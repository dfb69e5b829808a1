"""Commands about adapters as files: show, apply."""

from pathlib import Path
from typing import Annotated

import typer

from effxfer.cli.opening import opening
from effxfer.cli.options import Data, Device, DryRun, Force, Json, Out, Set, Source, table

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None,
    help="Adapters as files: look, put on the network that they were trained on.",
)  # fmt: skip

File = Annotated[Path, typer.Argument(help="An adapter.safetensors, or a model directory that holds one.")]


@app.command()
def show(adapter: File, as_json: Json = False) -> None:
    """Say what an adapter is: how large, for which classes, of which network, trained how."""
    from dataclasses import asdict

    from effxfer.adapter_file import describe
    from effxfer.cli import show as shown
    from effxfer.stages.runner.source import read_adapter

    one = read_adapter(adapter)
    if as_json:
        shown.document({"adapter": str(adapter), "digest": one.facts.identity, **asdict(one.facts)})
        return
    shown.result(describe(one), False, adapter=str(adapter), digest=one.facts.identity)


@app.command()
@opening
def apply(
    adapter: File, base: Source, out: Out, data: Data = "",
    merge: Annotated[
        bool | None, typer.Option("--merge/--no-merge", help="Into the weights.  [default: --merge]")
    ] = None,
    changes: Set = None, device: Device = "auto", force: Force = False, dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Put an adapter, with its head, on the network that it was trained on, and measure the result."""
    from effxfer.cli.adapt import origin_of, run_stage
    from effxfer.stages.runner.context import RunContext
    from effxfer.stages.runner.source import Adapted, read_adapter

    given = table(changes, merge=merge)
    origin = Adapted(origin_of(base, given), read_adapter(adapter))
    context = RunContext(out=out, device=device, force=force)
    run_stage("adapter", origin, data, given, context, dry_run=dry_run, as_json=as_json)
