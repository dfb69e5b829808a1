"""Commands about tickets as files: show, apply and pack."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from effxfer.cli.opening import opening
from effxfer.cli.options import Data, Device, DryRun, Force, Json, Out, Seed, Set
from effxfer.cli.stage_command import run_stage

if TYPE_CHECKING:
    pass

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None,
    help="Lottery tickets as files: look, train on other tasks, compare, pack.",
)  # fmt: skip

File = Annotated[Path, typer.Argument(help="A ticket.safetensors, or a model directory that holds one.")]
Files = Annotated[list[Path], typer.Argument(help="Tickets: files, or model directories that hold one.")]
Backbone = Annotated[str, typer.Option(help="For a ticket without weights: where they are, if not where it says.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training split; without it, as the recipe says.")]
Rate = Annotated[float | None, typer.Option(help="Peak learning rate; without it, as the recipe says.")]


@app.command()
def show(ticket: File, as_json: Json = False) -> None:
    """Say what a ticket is: how sparse, of which network, found how, rewound to what."""
    from dataclasses import asdict

    from effxfer.cli import show as shown
    from effxfer.prune.tickets.ticket_report import describe
    from effxfer.stages.runner.source import read_ticket

    one = read_ticket(ticket)
    if as_json:
        shown.document({"ticket": str(ticket), "digest": one.facts.identity, **asdict(one.facts)})
        return
    shown.report(describe(one), False, ticket=str(ticket), digest=one.facts.identity)


@app.command()
@opening
def apply(
    ticket: File, out: Out, data: Data = "", epochs: Epochs = None, lr: Rate = None,
    mask: Annotated[str | None, typer.Option(help="ticket; as a control, random or none.  [default: ticket]")] = None,
    backbone: Backbone = "", seed: Seed = None, changes: Set = None, device: Device = "auto", force: Force = False,
    dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Train a ticket on your data, from its rewind point, with a fresh head; its zeros stay."""
    from functools import partial

    import effxfer

    run_stage(
        partial(effxfer.train_ticket, epochs=epochs, lr=lr, mask=mask, backbone=backbone), ticket, out=out, data=data,
        seed=seed, changes=changes, device=device, force=force, dry_run=dry_run, as_json=as_json,
    )  # fmt: skip


@app.command()
@opening
def pack(
    ticket: File, out: Annotated[Path, typer.Option(help="The file to write.")],
    backbone: Annotated[str, typer.Option(help="Leave the weights out: they are those of this backbone.")] = "",
    force: Force = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Write a ticket into a file of its own: with its weights, or without those that a backbone has."""
    from effxfer.cli import show as shown
    from effxfer.net.backbones.trust import trusting_sources
    from effxfer.prune.tickets.ticket_report import describe
    from effxfer.stages.runner.output_dir import check_file
    from effxfer.stages.runner.source import lean, read_ticket, whole, write_ticket

    check_file(out)
    one = whole(read_ticket(ticket))
    with trusting_sources(backbone):
        packed = lean(one, backbone) if backbone else one
    write_ticket(packed, out, force=force)
    shown.report(describe(packed), as_json, ticket=str(out), digest=packed.facts.identity)
