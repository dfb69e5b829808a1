"""Commands about adapters as files: show, apply."""

from pathlib import Path
from typing import Annotated

import typer

from effxfer.cli.opening import opening
from effxfer.cli.options import Data, Device, DryRun, Force, Json, Out, Set, Source
from effxfer.cli.stage_command import run_stage

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
    shown.report(describe(one), False, adapter=str(adapter), digest=one.facts.identity)


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
    from functools import partial

    from effxfer.api import apply_adapter

    run_stage(
        partial(apply_adapter, merge=merge), adapter, base, out=out, data=data, changes=changes, device=device,
        force=force, dry_run=dry_run, as_json=as_json,
    )  # fmt: skip
