"""Functions about lottery tickets in files: read, train, pack.

`help(effxfer.api)` describes the arguments that all of them take.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effxfer.api.job import run_stage
from effxfer.api.result import LoadedTicket, Result
from effxfer.api.sources import Data, PathLike, path_of, table_of
from effxfer.net.backbones.trust import trust_sources
from effxfer.prune.tickets.file import TicketFile
from effxfer.stages.runner.output_dir import check_file
from effxfer.stages.runner.source import fill_in_weights, point_to_weights, read_ticket, write_ticket

Ticket = PathLike | Result | LoadedTicket


def load_ticket(ticket: PathLike | Result) -> LoadedTicket:
    """Read a ticket: its sparsity, network, pruning recipe and rewind point.

    Args:
        ticket: A `ticket.safetensors`, or a model directory that holds one.

    Raises:
        ModelFileError: If there is none, or it is not what was written.
    """
    path = path_of(ticket)
    return LoadedTicket.of(read_ticket(path), path)


def train_ticket(
    ticket: Ticket, *, out: PathLike, data: Data | None = None, epochs: int | None = None,
    lr: float | None = None, mask: str | None = None, backbone: str = "", seed: int | None = None,
    device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Train a lottery ticket on labelled images from its rewind point, with a new head; its zeros stay.

    Args:
        ticket: A `ticket.safetensors`, a model directory that holds one, or what `load_ticket` returned.
        epochs: Passes over the training split; those of the ticket's recipe if None.
        lr: Peak learning rate; that of the ticket's recipe if None.
        mask: `ticket`, or as a control `random` or `none`; `ticket` if None.
        backbone: Where the weights of a ticket without weights are, if not where it says.
    """
    table = table_of(settings, extra, seed=seed, fit__epochs=epochs, fit__lr=lr, mask=mask)
    opened = _file_of(ticket)
    with trust_sources(backbone):
        source = fill_in_weights(opened, backbone) if backbone else opened
        return run_stage("ticket", source, out=out, data=data, settings=table, device=device, force=force)


def pack_ticket(ticket: Ticket, *, out: PathLike, backbone: str = "", force: bool = False) -> LoadedTicket:
    """Write a ticket to one file, with its weights, or pointing to those of a backbone.

    Args:
        ticket: A `ticket.safetensors`, a model directory that holds one, or what `load_ticket` returned.
        out: The file to write.
        backbone: Leave the weights out: they are those of this backbone. Empty writes them into the file.
        force: Replace another ticket.

    Raises:
        SettingsError: If something else is there (`E211`).
        ModelFileError: If the backbone has other weights than the ticket's rewind point.
    """
    file = Path(out)
    check_file(file)
    complete = fill_in_weights(_file_of(ticket))
    with trust_sources(backbone):
        packed = point_to_weights(complete, backbone) if backbone else complete
    write_ticket(packed, file, force=force)
    return LoadedTicket.of(packed, file)


def _file_of(ticket: Ticket) -> TicketFile:
    return ticket.file if isinstance(ticket, LoadedTicket) else read_ticket(path_of(ticket))
