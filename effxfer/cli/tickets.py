"""Commands for ticket files: show, apply, pack."""

from pathlib import Path
from typing import Annotated

import typer

from effxfer.cli.options import Data, Device, DryRun, Force, Json, Out, Seed, Set
from effxfer.cli.stage_command import run_stage
from effxfer.cli.trust_option import add_trust_option

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None,
    help="Show, train and pack lottery-ticket files.",
)  # fmt: skip

File = Annotated[Path, typer.Argument(help="A ticket.safetensors file, or a model directory with one.")]
Backbone = Annotated[str, typer.Option(help="For a ticket without weights: their source, if it moved.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training split; omit for the recipe's.")]
Rate = Annotated[float | None, typer.Option(help="Peak learning rate; omit for the recipe's.")]


@app.command()
def show(ticket: File, as_json: Json = False) -> None:
    """Show a ticket's sparsity, network, pruning recipe and rewind point."""
    import effxfer
    from effxfer.cli import show as shown

    shown.result(effxfer.load_ticket(ticket), as_json)


@app.command()
@add_trust_option
def apply(
    ticket: File, out: Out, data: Data = "", epochs: Epochs = None, lr: Rate = None,
    mask: Annotated[str | None, typer.Option(help="ticket, or a control: random, none.  [default: ticket]")] = None,
    backbone: Backbone = "", seed: Seed = None, changes: Set = None, device: Device = "auto", force: Force = False,
    dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Train a ticket on your data from its rewind point.

    The head is new; pruned weights stay zero.
    """
    from functools import partial

    import effxfer

    run_stage(
        partial(effxfer.train_ticket, epochs=epochs, lr=lr, mask=mask, backbone=backbone), ticket, out=out, data=data,
        seed=seed, changes=changes, device=device, force=force, dry_run=dry_run, as_json=as_json,
    )  # fmt: skip


@app.command()
@add_trust_option
def pack(
    ticket: File, out: Annotated[Path, typer.Option(help="Output file.")],
    backbone: Annotated[str, typer.Option(help="Omit the weights; load them from this backbone.")] = "",
    force: Force = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Write a ticket to one file, with or without its weights."""
    import effxfer
    from effxfer.cli import show as shown

    packed = effxfer.pack_ticket(ticket, out=out, backbone=backbone, force=force)
    shown.report(packed.report, as_json, **packed.facts())
