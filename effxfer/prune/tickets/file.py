"""A lottery ticket as one file: masks, weights at the rewind point, and the training recipe.

A ticket found on one task can win on others (Morcos et al., 2019, https://arxiv.org/abs/1906.02773; Chen et al., 2021,
https://arxiv.org/abs/2012.06908), so it is saved for reuse. `effxfer.prune.tickets.codec` describes the layout of the
file. Reading it needs no torch; building its network does.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.documents.documents import TicketDocument
from effxfer.documents.find_mistake import find_mistake
from effxfer.errors import ModelFileError
from effxfer.files import digest
from effxfer.net.backbones import trust
from effxfer.prune.tickets.codec import FILE, MASK, WEIGHT, pack_mask, unpack_masks
from effxfer.runtime.inputs import input_from_json
from effxfer.runtime.text.tokens import TOKENIZER
from effxfer.signed_safetensors import (
    Kind,
    Raw,
    SignedFile,
    alteration_error,
    load,
    misfit_error,
    raw_of,
    sha256,
    tensors_under,
)

if TYPE_CHECKING:
    from torch import Tensor

    from effxfer.net.net import Edit, Net

BODY = "body."


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Contents of a ticket's document.

    Attributes:
        backbone: The body before `edits`: `{"source": ..., "args": {...}}`.
        edits: Architecture changes to replay, in order; those of a head are left out.
        preprocess: Preprocessing of the network's input.
        shapes: Shape of each mask, by the weight's name.
        kept: Number of weights that the masks keep.
        masked: Number of weights that have a mask.
        everything: Number of weights of the body.
        rewind: Description of the rewind point.
        masks: SHA-256 of the masks.
        weights: SHA-256 of the body's weights and buffers at the rewind point.
        recipe: Name and settings of the stage that found the ticket: `{"stage": ..., "settings": {...}}`.
        origin: Key of that stage's result, its data, its measured accuracy, and package versions.
        pointer: Settings of a backbone that has those weights; None if they are in the file.
        schema: Version of this layout.
    """

    backbone: Mapping[str, Any]
    edits: "list[Edit]"
    preprocess: Mapping[str, Any]
    shapes: Mapping[str, list[int]]
    kept: int
    masked: int
    everything: int
    rewind: str
    masks: str
    weights: str
    recipe: Mapping[str, Any]
    origin: Mapping[str, Any]
    pointer: Mapping[str, Any] | None = None
    schema: int = 1

    @property
    def identity(self) -> str:
        """Digest of everything that determines a training of this ticket, without its origin and storage."""
        parts = ("schema", "backbone", "edits", "preprocess", "shapes", "masks", "weights", "recipe")
        return digest({part: getattr(self, part) for part in parts})

    @property
    def start(self) -> str:
        """Digest of the network at its rewind point, before anything is removed."""
        # Masks are no part of the start: several tickets share a dense network.
        edits = [edit for edit in self.edits if edit["kind"] not in ("densify", "sparsify")]
        return digest([self.backbone, edits, self.preprocess, self.weights])


class TicketFile(SignedFile[Facts]):
    """A checked ticket."""

    kind = Kind(
        name="ticket", document="effxfer.ticket", make="make one with `effxfer prune --method lottery`",
        facts=Facts, find_mistake=partial(find_mistake, TicketDocument),
    )  # fmt: skip

    @staticmethod
    def parts(facts: Facts) -> dict[str, str]:
        """Map each digest of tensors that are in the file to the prefix of their names."""
        return {"masks": MASK} | ({"weights": WEIGHT} if facts.pointer is None else {})

    def check(self, tensors: Mapping[str, Raw], name: str) -> None:
        """Check the digests (see `SignedFile`), the number of kept weights, and that there are no other tensors."""
        try:
            surviving = sum(int(mask.sum()) for mask in unpack_masks(tensors, self.facts.shapes).values())
        except ValueError as error:  # such as a shape with a 0 and other sides that are too large
            raise alteration_error(name, str(error)) from error
        super().check(tensors, name)
        listed = sum(len(tensors_under(tensors, prefix)) for prefix in (*self.parts(self.facts).values(), FILE))
        if surviving != self.facts.kept or len(tensors) != listed:
            reason = f"its masks must keep {self.facts.kept} weights, and its tensors must be masks, weights or files"
            raise alteration_error(name, reason)
        digests = {
            name: hashlib.sha256(data).hexdigest() for name, (_, _, data) in tensors_under(tensors, FILE).items()
        }
        if digests != ({TOKENIZER: tokenizer} if (tokenizer := self.facts.preprocess.get("tokenizer")) else {}):
            raise alteration_error(name, "its files must be those that its input needs")

    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """Unpack the masks, by the weight's name; true means keep."""
        return unpack_masks(load(self.content, "the ticket", self.kind)[0], self.facts.shapes)

    def weights(self) -> "dict[str, Tensor] | None":
        """Return the body's weights and buffers at the rewind point; None if the ticket points to them."""
        return tensors_under(self.tensors(), WEIGHT) if self.facts.pointer is None else None

    def files(self) -> dict[str, bytes]:
        """Return the files that the network's input needs, by name."""
        return {name: tensor.numpy().tobytes() for name, tensor in tensors_under(self.tensors(), FILE).items()}

    def with_pointer(self, backbone: Mapping[str, Any], weights: "Mapping[str, Tensor]") -> "TicketFile":
        """Return the same ticket without its weights.

        Args:
            backbone: Settings of a backbone that has them.
            weights: Weights and buffers of that backbone.

        Raises:
            ModelFileError: If they differ from those of the rewind point.
        """
        self.check_weights(weights, str(backbone.get("source")))
        return _assemble(replace(self.facts, pointer=dict(backbone)), self.masks(), None, self.files())

    def with_weights(self, weights: "Mapping[str, Tensor]", source: str) -> "TicketFile":
        """Return the same ticket with its weights inside.

        Args:
            weights: The body's weights and buffers at the rewind point.
            source: Name of their origin in errors.

        Raises:
            ModelFileError: If they differ from those that the ticket was found with.
        """
        self.check_weights(weights, source)
        return _assemble(replace(self.facts, pointer=None), self.masks(), weights, self.files())

    def check_weights(self, weights: "Mapping[str, Tensor]", source: str) -> None:
        """Check that weights equal those of the ticket's rewind point.

        Raises:
            ModelFileError: If they differ.
        """
        actual = sha256(raw_of(weights))
        if actual != self.facts.weights:
            text = f"{source} has other weights than the ticket's rewind point: their SHA-256 is {actual[:12]}"
            hint = f"name a {self.facts.backbone['source']} with the weights that the ticket was found with"
            raise ModelFileError(f"{text}, not {self.facts.weights[:12]}", hint, code="E404")

    def network(self) -> "Net":
        """Rebuild the body at its rewind point, with the ticket's masks and without a head.

        Masked weights are not zero yet: `Net.apply_masks_` zeroes them, and training calls it before its first step.

        Raises:
            ModelFileError: If the weights or masks do not fit the recorded architecture, if the file holds no weights,
                or if the architecture names code that is not trusted: see `effxfer.net.backbones.trust`.
        """
        trust.check_trusted(self.facts.backbone, "the ticket")
        import torch

        from effxfer.net.backbones.recorded import name_rebuild_errors
        from effxfer.net.edits import rebuild

        weights = self.weights()
        if weights is None:
            raise ModelFileError("the ticket holds no weights", "open the backbone that it points to")
        with name_rebuild_errors("the ticket", len(self.content)):
            net = rebuild(self.facts.backbone, self.facts.edits, input_from_json(self.facts.preprocess, self.files()))
        # Names and shapes before loading: `strict=False` below would leave out what does not fit.
        _check_fits(weights, _body(net.state_dict()), "weights", "E405")
        net.load_state_dict(weights, strict=False)
        masks = {name: torch.from_numpy(mask) for name, mask in self.masks().items()}
        _check_fits(masks, net.masks(), "masks", "E410")
        for name, buffer in net.masks().items():
            buffer.copy_(masks[name])
        return net.eval()


def pack(
    net: "Net", start: "Mapping[str, Tensor]", *, rewind: str, recipe: Mapping[str, Any], origin: Mapping[str, Any]
) -> TicketFile:
    """Make a ticket of the body of a network.

    Args:
        net: A network with masks.
        start: The network's weights and buffers at the rewind point, by name; those outside of the body are ignored.
        rewind: Description of the rewind point.
        recipe: See `Facts`.
        origin: See `Facts`.

    Raises:
        ModelFileError: If `start` does not fit the network.
    """
    from effxfer.net.edits import body_edits

    weights, stored = _body(start), _body(net.masks())
    _check_fits(weights, _body(net.state_dict()), "weights", "E405")
    masks = {name: stored[name].cpu().numpy() for name in sorted(stored)}
    facts = Facts(
        backbone=net.backbone, edits=body_edits(net.edits), preprocess=net.input.to_json(),
        shapes={name: list(mask.shape) for name, mask in masks.items()},
        kept=sum(int(mask.sum()) for mask in masks.values()), masked=sum(mask.size for mask in masks.values()),
        everything=sum(weight.numel() for weight in net.body.parameters()),
        rewind=rewind, masks="", weights="", recipe=recipe, origin=origin,
    )  # fmt: skip
    return _assemble(facts, masks, weights, net.input.files())


def _assemble(
    facts: Facts, masks: Mapping[str, NDArray[np.bool_]], weights: "Mapping[str, Tensor] | None",
    files: Mapping[str, bytes],
) -> TicketFile:  # fmt: skip
    """Compute the digests and serialize the ticket."""
    import torch

    tensors = {MASK + name: torch.from_numpy(pack_mask(mask)) for name, mask in masks.items()}
    tensors |= {WEIGHT + name: tensor for name, tensor in (weights or {}).items()}
    tensors |= {FILE + name: torch.frombuffer(bytearray(content), dtype=torch.uint8) for name, content in files.items()}
    return TicketFile.pack(facts, tensors)


def _body(tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    return {name: tensor for name, tensor in tensors.items() if name.startswith(BODY)}


def _check_fits(tensors: "Mapping[str, Tensor]", expected: "Mapping[str, Tensor]", kind: str, code: str) -> None:
    wrong = [name for name in expected if name not in tensors or tensors[name].shape != expected[name].shape]
    wrong += [name for name in tensors if name not in expected]
    if wrong:
        raise misfit_error(f"the ticket's {kind}", wrong, code)
