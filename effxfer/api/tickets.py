"""Functions for lottery tickets in files: load, train and pack them.

`help(effxfer.api)` describes the arguments that they have in common.
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
    """Load a ticket, and describe its sparsity, network, pruning recipe and rewind point.

    Args:
        ticket: Path of a `ticket.safetensors`, or a model directory with one.

    Returns:
        The ticket, with a report on it.

    Raises:
        ModelFileError: If there is no ticket, or it is damaged.

    Examples:
        >>> ticket = ex.load_ticket("runs/ticket")
        >>> print(ticket.sparsity, ticket.digest)
    """
    path = path_of(ticket)
    return LoadedTicket.of(read_ticket(path), path)


def train_ticket(
    ticket: Ticket, *, out: PathLike, data: Data | None = None, epochs: int | None = None,
    lr: float | None = None, mask: str | None = None, backbone: str = "", seed: int | None = None,
    device: str = "auto", force: bool = False, settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Result:  # fmt: skip
    """Train a lottery ticket on labelled images from its rewind point, with a new head; pruned weights stay zero.

    The common arguments are described in `effxfer.api`.

    Args:
        ticket: Path of a `ticket.safetensors`, a model directory with one, or what `load_ticket` returned.
        epochs: Number of epochs; that of the ticket's recipe if None.
        lr: Peak learning rate; that of the ticket's recipe if None.
        mask: Mask to train with: `ticket`, or a control, `random` or `none`; `ticket` if None.
        backbone: Source of the weights of a ticket without weights; empty for the source in the ticket.

    Returns:
        The model directory with the trained, sparse network.

    Raises:
        SettingsError: If an argument is wrong, or `out` contains another result.
        ModelFileError: If the ticket is damaged, or its backbone has other weights.
        GateError: If the training diverges.

    Examples:
        >>> sparse = ex.train_ticket("runs/ticket", data="other-photos", out="runs/transferred")
        >>> control = ex.train_ticket("runs/ticket", data="other-photos", out="runs/random", mask="random")
    """
    table = table_of(settings, extra, seed=seed, fit__epochs=epochs, fit__lr=lr, mask=mask)
    opened = _file_of(ticket)
    with trust_sources(backbone):
        source = fill_in_weights(opened, backbone) if backbone else opened
        return run_stage("ticket", source, out=out, data=data, settings=table, device=device, force=force)


def pack_ticket(ticket: Ticket, *, out: PathLike, backbone: str = "", force: bool = False) -> LoadedTicket:
    """Write a ticket to one file, with its weights or with a reference to a backbone's weights.

    Args:
        ticket: Path of a `ticket.safetensors`, a model directory with one, or what `load_ticket` returned.
        out: File to write.
        backbone: Source of a backbone with the ticket's weights, to which the file then refers. Empty: the file
            contains the weights.
        force: Whether to replace a different ticket.

    Returns:
        The written ticket, with a report on it.

    Raises:
        SettingsError: If `out` exists and is not a ticket, or another ticket (`E211`).
        ModelFileError: If the weights of the backbone differ from the ticket's rewind point.

    Examples:
        >>> packed = ex.pack_ticket("runs/ticket", out="small.safetensors", backbone="timm:resnet18")
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
