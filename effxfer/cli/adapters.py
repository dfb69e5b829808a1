"""Commands for adapter files: show, apply."""

from pathlib import Path
from typing import Annotated

import typer

from effxfer.cli.options import Data, Device, DryRun, Force, Json, Out, Set, Source
from effxfer.cli.stage_command import run_stage
from effxfer.cli.trust_option import add_trust_option

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None,
    help="Show adapter files, or apply them to their network.",
)  # fmt: skip

File = Annotated[Path, typer.Argument(help="An adapter.safetensors file, or a model directory with one.")]


@app.command()
def show(adapter: File, as_json: Json = False) -> None:
    """Show an adapter's size, classes, base network and training recipe."""
    import effxfer
    from effxfer.cli import show as shown

    shown.result(effxfer.load_adapter(adapter), as_json)


@app.command()
@add_trust_option
def apply(
    adapter: File, base: Source, out: Out, data: Data = "",
    merge: Annotated[
        bool | None, typer.Option("--merge/--no-merge", help="Merge the adapter into the weights.  [default: --merge]")
    ] = None,
    changes: Set = None, device: Device = "auto", force: Force = False, dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Apply an adapter and its head to its base network, and evaluate it."""
    from functools import partial

    import effxfer

    run_stage(
        partial(effxfer.apply_adapter, merge=merge), adapter, base, out=out, data=data, changes=changes, device=device,
        force=force, dry_run=dry_run, as_json=as_json,
    )  # fmt: skip
