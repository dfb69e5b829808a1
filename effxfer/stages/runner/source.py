"""Sources of a stage: a model directory, a backbone, a ticket, or an adapter with its base network."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effxfer import artifact, model_source
from effxfer.adapter_file import AdapterFile
from effxfer.artifact import MANIFEST, Artifact
from effxfer.data.listing import Listing
from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.backbones import trust
from effxfer.net.settings import DUAL_ENCODER, BackboneSettings
from effxfer.prune.tickets.file import TicketFile
from effxfer.settings import build
from effxfer.signed_safetensors import Kind
from effxfer.stages.settings.common import ADAPTER, TICKET

if TYPE_CHECKING:
    from torch import Tensor

    from effxfer.net.net import Net

MLP = "effxfer.net.mlp:mlp"


@dataclass(frozen=True, eq=False)
class AdapterOnBase:
    """An adapter and the network on which it was trained."""

    base: Artifact | BackboneSettings
    adapter: AdapterFile


Source = Artifact | BackboneSettings | TicketFile | AdapterOnBase


def open_source(source: Source, texts: Iterable[str] = ()) -> "tuple[Net, tuple[str, ...]]":
    """Open the network of a source.

    Args:
        source: The source.
        texts: Training texts, on which the tokenizer of a new text encoder is trained.

    Returns:
        The network and notes on its weights.

    Raises:
        ModelFileError: If a file is unreadable, or a ticket refers to other weights than those of its search.
    """
    if isinstance(source, Artifact):
        return source.net(), ()
    if isinstance(source, TicketFile):
        return fill_in_weights(source).network(), ()
    if isinstance(source, AdapterOnBase):
        net, notes = open_source(source.base, texts)
        return source.adapter.put_on(net, base_name(source.base)), notes
    if source.is_new_encoder:
        from effxfer.net.text.new_encoder import new_encoder

        return new_encoder(source, texts)
    return model_source.open_model(source)


def with_width(source: Source, listings: Sequence[Listing]) -> Source:
    """Return a source whose multilayer perceptron is as wide as the vectors of the data, unless its width is set."""
    widths = [listing.vectors.shape[1] for listing in listings if listing.vectors is not None]
    if not isinstance(source, BackboneSettings) or source.source != MLP or "inputs" in source.args or not widths:
        return source
    return source.model_copy(update={"args": {**source.args, "inputs": widths[-1]}})


def parent_of(source: Source) -> object:
    """Return the identity of a source as plain values for a key; loads no torch."""
    if isinstance(source, Artifact):
        return source.manifest.key
    if isinstance(source, AdapterOnBase):
        return {"adapter": source.adapter.facts.identity, "base": parent_of(source.base)}
    return {"ticket": source.facts.identity} if isinstance(source, TicketFile) else model_source.identity(source)


def input_kind(source: Source) -> str:
    """Return the kind of a source's input, a key of `INPUTS`; empty if only the network itself knows.

    It is read from names and files, without torch.
    """
    if isinstance(source, AdapterOnBase):
        return input_kind(source.base)
    if isinstance(source, TicketFile):
        return str(source.facts.preprocess.get("kind", "image"))
    model = source if isinstance(source, Artifact) else model_source.find(source.source)
    if model:
        return str(model.manifest.preprocess.get("kind", "image"))
    assert isinstance(source, BackboneSettings)
    if source.is_text_folder or source.is_new_encoder:
        return "text"
    if source.source.partition("@")[0] == MLP:
        return "vector"
    return "image" if source.source.startswith(("timm:", "torchvision:", DUAL_ENCODER)) else ""


def recipe_of(source: Source) -> Mapping[str, Any] | None:
    """Return the training recipe of a ticket; None for other sources."""
    return source.facts.recipe if isinstance(source, TicketFile) else None


def user_sources(source: Source) -> tuple[str, ...]:
    """Return the source strings that the user passed, and trusts; strings in files are not among them."""
    base = source.base if isinstance(source, AdapterOnBase) else source
    return (base.source,) if isinstance(base, BackboneSettings) else ()


def base_name(base: Artifact | BackboneSettings) -> str:
    """Return the name of a network for messages."""
    return str(base.path) if isinstance(base, Artifact) else base.source


def read_adapter(path: Path) -> AdapterFile:
    """Read an adapter.

    Args:
        path: Adapter file, or model directory with one.

    Raises:
        ModelFileError: If there is no adapter, or it is damaged.
    """
    return AdapterFile.read(file_of(path, ADAPTER, AdapterFile.kind))


def read_ticket(path: Path) -> TicketFile:
    """Read a ticket.

    Args:
        path: Ticket file, or model directory with one.

    Raises:
        ModelFileError: If there is no ticket, or it is damaged.
    """
    return TicketFile.read(file_of(path, TICKET, TicketFile.kind))


def file_of(path: Path, name: str, kind: Kind) -> Path:
    """Return the file of a path: the path itself, or the file `name` of a model directory, checked by its manifest.

    Raises:
        ModelFileError: If there is no such file, or it differs from the manifest.
    """
    if not path.is_dir():
        if not path.exists():
            raise ModelFileError(f"no {kind.name} {path}", f"name a {name}, or a model directory that holds one")
        return path
    if not (path / MANIFEST).exists() and (path / name).exists():
        raise ModelFileError(f"{path} is no model directory: nothing vouches for its {name}", f"name {path / name}")
    manifest = artifact.read_manifest(path)
    if name not in manifest["files"]:
        raise ModelFileError(f"{path} is the result of {manifest['stage']} and holds no {name}", kind.make)
    return artifact.check_file(path, name, manifest["files"])


def write_ticket(ticket: TicketFile, file: Path, *, force: bool = False) -> None:
    """Write a ticket file.

    Args:
        ticket: Ticket with or without its weights.
        file: File to write; an equal ticket is replaced.
        force: Whether to replace a different ticket.

    Raises:
        SettingsError: If `file` exists and is not a ticket, or another ticket and `force` is not set.
    """
    if file.exists():
        try:
            existing = read_ticket(file).facts.identity if not file.is_dir() else ""
        except ModelFileError:
            existing = ""
        if not existing:
            raise SettingsError(f"{file} exists but is not a ticket file", "give another `out`", code="E211")
        if existing != ticket.facts.identity and not force:
            hint = "replace it with `force`, or give another `out`"
            raise SettingsError(f"{file} is another ticket", hint, code="E211")
    ticket.save(file)


def fill_in_weights(ticket: TicketFile, backbone: str = "") -> TicketFile:
    """Return a ticket that contains its weights; a ticket that only refers to a backbone gets that backbone's weights.

    Args:
        ticket: Ticket with or without its weights.
        backbone: Source of the backbone with the weights; empty for the source in the ticket.

    Raises:
        SettingsError: If a backbone is named for a ticket that contains its weights.
        ModelFileError: If the backbone cannot be opened, or has other weights.
    """
    if ticket.facts.pointer is None:
        if backbone:
            raise SettingsError("the ticket holds its weights: a backbone has no effect", "leave `backbone` out")
        return ticket
    pointer = build(BackboneSettings, ticket.facts.pointer, "the ticket's backbone")
    named = _settings(ticket, backbone) if backbone else pointer
    _check_trust(named)
    return ticket.with_weights(body_of(named), named.source)


def point_to_weights(ticket: TicketFile, backbone: str) -> TicketFile:
    """Return a ticket that refers to the weights of a backbone instead of containing them.

    Raises:
        ModelFileError: If the weights of the backbone differ from the ticket's rewind point.
    """
    named = _settings(ticket, backbone)
    _check_trust(named)
    return ticket.with_pointer(named.plain(), body_of(named))


def body_of(backbone: BackboneSettings) -> "dict[str, Tensor]":
    """Open a backbone, and return the parameters and buffers of its body."""
    net, _ = model_source.open_model(backbone)
    return {name: tensor for name, tensor in net.state_dict().items() if name.startswith("body.")}


def _check_trust(named: BackboneSettings) -> None:
    """Check that a network named by a ticket may be built; model directories have their own check."""
    if model_source.find(named.source) is None:
        trust.check_trusted({"source": named.source.partition("@")[0], "args": named.args}, "the ticket")


def _settings(ticket: TicketFile, backbone: str) -> BackboneSettings:
    """Return the settings of a backbone, with the arguments of the ticket's network unless it is a model directory."""
    args = {} if model_source.find(backbone) else ticket.facts.backbone["args"]
    return build(BackboneSettings, {"source": backbone, "args": args}, "backbone")
