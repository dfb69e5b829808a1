"""What a stage starts from: a model directory, a backbone, a ticket, or an adapter and its base."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effxfer import artifact
from effxfer.adapter_file import AdapterFile
from effxfer.artifact import MANIFEST, Artifact
from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.backbones import trust
from effxfer.net.settings import BackboneSettings
from effxfer.prune.tickets.file import TicketFile
from effxfer.settings import build
from effxfer.signed_safetensors import Kind
from effxfer.stages.settings.common import ADAPTER, TICKET

if TYPE_CHECKING:
    from torch import Tensor

    from effxfer.net.net import Net


@dataclass(frozen=True, eq=False)
class Adapted:
    """An adapter, and the network that it was trained on."""

    base: Artifact | BackboneSettings
    adapter: AdapterFile


Source = Artifact | BackboneSettings | TicketFile | Adapted


def open_source(source: Source) -> "tuple[Net, tuple[str, ...]]":
    """Open the network to start from.

    Returns:
        The network and notes on its weights.

    Raises:
        ModelFileError: If it is unreadable, or a ticket points to weights that are not those it was found with.
    """
    if isinstance(source, Artifact):
        return source.net(), ()
    if isinstance(source, TicketFile):
        return fill_in_weights(source).network(), ()
    if isinstance(source, Adapted):
        net, notes = open_source(source.base)
        return source.adapter.put_on(net, base_name(source.base)), notes
    return artifact.open_model(source)


def parent_of(source: Source) -> object:
    """What determines the network to start from, as plain values for a key; loads no torch."""
    if isinstance(source, Artifact):
        return source.manifest.key
    if isinstance(source, Adapted):
        return {"adapter": source.adapter.facts.identity, "base": parent_of(source.base)}
    return {"ticket": source.facts.identity} if isinstance(source, TicketFile) else artifact.identity(source)


def recipe_of(source: Source) -> Mapping[str, Any] | None:
    """How a ticket was trained; None for another source."""
    return source.facts.recipe if isinstance(source, TicketFile) else None


def user_sources(source: Source) -> tuple[str, ...]:
    """Give the sources that the user names by what a stage starts from; what files name is not among them."""
    base = source.base if isinstance(source, Adapted) else source
    return (base.source,) if isinstance(base, BackboneSettings) else ()


def base_name(base: Artifact | BackboneSettings) -> str:
    """Name a network for an error."""
    return str(base.path) if isinstance(base, Artifact) else base.source


def read_adapter(path: Path) -> AdapterFile:
    """Read an adapter: its file, or the one in a model directory; errors as in `file_of` and `SignedFile.read`."""
    return AdapterFile.read(file_of(path, ADAPTER, AdapterFile.kind))


def read_ticket(path: Path) -> TicketFile:
    """Read a ticket: its file, or the one in a model directory; errors as in `file_of` and `SignedFile.read`."""
    return TicketFile.read(file_of(path, TICKET, TicketFile.kind))


def file_of(path: Path, name: str, kind: Kind) -> Path:
    """Find the file that a path means: itself, or the one of a model directory, as the manifest says it is.

    Raises:
        ModelFileError: If there is none, or the manifest does not vouch for it.
    """
    if not path.is_dir():
        if not path.exists():
            raise ModelFileError(f"no {kind.name} {path}", f"name a {name}, or a model directory that holds one")
        return path
    if not (path / MANIFEST).exists() and (path / name).exists():
        raise ModelFileError(f"{path} is no model directory: nothing vouches for its {name}", f"name {path / name}")
    known = artifact.read_manifest(path)
    if name not in known["files"]:
        raise ModelFileError(f"{path} is the result of {known['stage']} and holds no {name}", kind.make)
    return artifact.check_file(path, name, known["files"])


def write_ticket(ticket: TicketFile, file: Path, *, force: bool = False) -> None:
    """Write a ticket, with or without its weights.

    Args:
        ticket: Any.
        file: Where; an equal ticket that is there is replaced.
        force: Replace another ticket, too.

    Raises:
        SettingsError: If something else is there.
    """
    if file.exists():
        try:
            there = read_ticket(file).facts.identity if not file.is_dir() else ""
        except ModelFileError:
            there = ""
        if not there:
            raise SettingsError(f"{file} is there and is no ticket", "give another `out`", code="E211")
        if there != ticket.facts.identity and not force:
            hint = "replace it with `force`, or give another `out`"
            raise SettingsError(f"{file} is another ticket", hint, code="E211")
    ticket.save(file)


def fill_in_weights(ticket: TicketFile, backbone: str = "") -> TicketFile:
    """Give a ticket with its weights inside, also if it points to those of a backbone.

    Args:
        ticket: Any.
        backbone: Source of the backbone that has them; empty is what the ticket says.

    Raises:
        SettingsError: If a backbone is named for a ticket that needs none.
        ModelFileError: If the backbone cannot be opened, or has other weights.
    """
    if ticket.facts.pointer is None:
        if backbone:
            raise SettingsError("the ticket holds its weights: a backbone has no effect", "leave `backbone` out")
        return ticket
    pointer = build(BackboneSettings, ticket.facts.pointer, "the ticket's backbone")
    told = _settings(ticket, backbone) if backbone else pointer
    _check_trust(told)
    return ticket.with_weights(body_of(told), told.source)


def point_to_weights(ticket: TicketFile, backbone: str) -> TicketFile:
    """Give a ticket that points to the weights of a backbone instead of holding them.

    Raises:
        ModelFileError: If the backbone has other weights than the ticket's rewind point.
    """
    told = _settings(ticket, backbone)
    _check_trust(told)
    return ticket.with_pointer(told.plain(), body_of(told))


def body_of(backbone: BackboneSettings) -> "dict[str, Tensor]":
    """Open a backbone, and give the weights and buffers of its body."""
    net, _ = artifact.open_model(backbone)
    return {name: tensor for name, tensor in net.state_dict().items() if name.startswith("body.")}


def _check_trust(told: BackboneSettings) -> None:
    """Make sure that a network may be built though a ticket names it; a model directory sees to itself."""
    if artifact.find(told.source) is None:
        trust.check_trusted({"source": told.source.partition("@")[0], "args": told.args}, "the ticket")


def _settings(ticket: TicketFile, backbone: str) -> BackboneSettings:
    """Name a backbone with the arguments that the ticket's network has, unless it is a model directory."""
    args = {} if artifact.find(backbone) else ticket.facts.backbone["args"]
    return build(BackboneSettings, {"source": backbone, "args": args}, "backbone")
