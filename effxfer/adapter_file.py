"""An adapter in one file: the tensors trained on a frozen body, and the digest of that body.

The file is much smaller than the body, so one body serves many tasks. Its layout is that of a ticket's file:
safetensors with one document. Reading it needs no torch; attaching it to a network does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from effxfer.documents.documents import AdapterDocument
from effxfer.documents.find_mistake import find_mistake
from effxfer.errors import ModelFileError
from effxfer.files import digest
from effxfer.report import Measurement, Report
from effxfer.runtime.inputs import input_from_json
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.signed_safetensors import Kind, SignedFile, misfit_error, raw_of, sha256

if TYPE_CHECKING:
    from torch import Tensor

    from effxfer.net.net import Edit, Net


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The document of an adapter.

    Attributes:
        strategy: A key of `STRATEGIES`.
        base: Digest of the body that it was trained on: architecture, weights, buffers and masks.
        backbone: That body before its edits: `{"source": ..., "args": {...}}`, for messages.
        edits: Edits that attach head and adapter to the body, in order.
        preprocess: Preprocessing of the network's input.
        classes: Class names of the head.
        smoothing: The largest label smoothing of the training.
        trained: Number of trained parameters, head included.
        everything: Number of parameters of the adapted network.
        tensors: SHA-256 of the file's tensors.
        recipe: Settings of the stage that trained it.
        origin: Key, data, measured accuracy and versions of its training.
        schema: Version of this layout.
    """

    strategy: str
    base: str
    backbone: Mapping[str, Any]
    edits: "list[Edit]"
    preprocess: Mapping[str, Any]
    classes: list[str]
    smoothing: float
    trained: int
    everything: int
    tensors: str
    recipe: Mapping[str, Any]
    origin: Mapping[str, Any]
    schema: int = 1

    @property
    def identity(self) -> str:
        """Digest of what determines the adapted network."""
        parts = ("schema", "base", "edits", "preprocess", "classes", "smoothing", "tensors")
        return digest({part: getattr(self, part) for part in parts})


class AdapterFile(SignedFile[Facts]):
    """A checked adapter."""

    kind = Kind(
        name="adapter", document="effxfer.adapter", make="make one with `effxfer finetune --strategy lora`",
        facts=Facts, find_mistake=partial(find_mistake, AdapterDocument),
    )  # fmt: skip

    def with_origin(self, **origin: Any) -> "AdapterFile":
        """Return the adapter with additional facts about its origin."""
        return self.pack(replace(self.facts, origin={**self.facts.origin, **origin}), self.tensors())

    def put_on(self, net: "Net", owner: str) -> "Net":
        """Attach the adapter to the body that it was trained on, and replace the head by its own.

        Args:
            net: Network, changed in place.
            owner: Name of the network in errors.

        Raises:
            ModelFileError: If the body differs (E411), or the tensors do not fit the document (E405).
        """
        from effxfer.net.backbones.recorded import name_rebuild_errors
        from effxfer.net.edits import apply_edit, remove_head
        from effxfer.net.merge import adapters, base_state

        if adapters(net):
            text = f"{owner} has an adapter already ({adapters(net)[0]['kind']}), which is not merged"
            raise ModelFileError(text, "name the network that both were put on", code="E411")
        actual, bare = base_digest(net), set(base_state(net))
        if actual != self.facts.base:
            text = f"{owner} is not the network of the adapter: its digest is {actual}, not {self.facts.base}"
            hint = f"name the {self.facts.backbone['source']} with the weights that the adapter was trained on"
            raise ModelFileError(text, hint, code="E411")
        # Before the edits, among which is the adapter's head: a network has one.
        remove_head(net)
        with name_rebuild_errors("the adapter", len(self.content)):
            for edit in self.facts.edits:
                apply_edit(net, **edit)
        _load_tensors(net, self.tensors(), bare)
        if isinstance(net.output, SingleLabel):
            net.output = SingleLabel(classes=tuple(self.facts.classes))
        net.input = input_from_json(self.facts.preprocess, net.input.files())
        net.smoothing = self.facts.smoothing
        return net.eval()


def base_digest(net: "Net", state: "Mapping[str, Tensor] | None" = None) -> str:
    """Digest a network's body without its adapters: architecture, weights, buffers and masks.

    Args:
        net: A network.
        state: An earlier result of `base_state`; None uses the present state.
    """
    from effxfer.net.edits import body_edits
    from effxfer.net.merge import adapters, base_state

    adapter_edits = adapters(net)
    edits = [edit for edit in body_edits(net.edits) if edit not in adapter_edits]
    return digest([dict(net.backbone), edits, sha256(raw_of(base_state(net) if state is None else state))])


def pack(
    net: "Net", base: "Mapping[str, Tensor]", *, strategy: str, trained: int,
    recipe: Mapping[str, Any], origin: Mapping[str, Any],
) -> AdapterFile:  # fmt: skip
    """Write the adapters and the head of a network to a file, before they are merged.

    Args:
        net: Network with its adapters and its head.
        base: A copy of `base_state` before training.
        strategy: A key of `STRATEGIES`.
        trained: Number of trained parameters, head included.
        recipe: Settings of the stage that trained it.
        origin: Key, data, measured accuracy and versions of its training.
    """
    from effxfer.net.merge import adapters

    facts = Facts(
        strategy=strategy, base=base_digest(net, base), backbone=net.backbone, edits=[*_head(net), *adapters(net)],
        preprocess=net.input.to_json(), classes=list(net.classes), smoothing=net.smoothing, trained=trained,
        everything=sum(p.numel() for p in net.parameters()), tensors="", recipe=recipe, origin=origin,
    )  # fmt: skip
    return AdapterFile.pack(facts, _changed_tensors(net, base))


def describe(adapter: AdapterFile) -> Report:
    """Report an adapter's size, classes, network and training."""
    facts = adapter.facts
    reached = facts.origin.get("reached", {})
    fit, tasks = facts.recipe.get("fit"), ", ".join(str(one.get("name")) for one in facts.origin.get("data", ()))
    fit_settings = fit if isinstance(fit, Mapping) else {}
    fit_text = ", ".join(
        f"{name} {fit_settings[name]}" for name in ("epochs", "optimizer", "lr", "schedule") if name in fit_settings
    )
    classes = ", ".join(facts.classes[:8]) + (" ..." if len(facts.classes) > 8 else "")
    return sizes(adapter) + Report(
        rows=tuple(Measurement(name=f"{n} where trained", value=value, unit="%") for n, value in reached.items()),
        notes=(
            f"network: {facts.backbone['source']}, {facts.preprocess['size']} px, digest {facts.base}",
            f"classes: {classes}",
            f"trained by {facts.strategy} on {tasks}, {fit_text}",
        ),
    )


def sizes(adapter: AdapterFile) -> Report:
    """Report the number of trained parameters and the size of the file."""
    facts = adapter.facts
    share = 100 * facts.trained / max(facts.everything, 1)
    return Report(
        rows=(
            Measurement(name="trained", value=share, unit="%", of="all parameters", n=facts.everything),
            Measurement(name="trained parameters", value=facts.trained / 1e6, unit="M"),
            Measurement(name="adapter file", value=len(adapter.content) / 1e6, unit="MB"),
        )
    )


def _changed_tensors(net: "Net", base: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Return the tensors that differ from the base: adapters, each once, the head, and changed ones of the body."""
    from effxfer.net.merge import base_name, base_state

    base_names, visited, changed = base_state(net), set[int](), dict[str, "Tensor"]()
    for name, tensor in net.state_dict(keep_vars=True).items():
        name_in_base = base_name(name)
        # Tied weights appear under several names; the file holds them once.
        if id(tensor) in visited or (name_in_base in base_names and _is_equal(tensor, base[name_in_base])):
            continue
        visited.add(id(tensor))
        changed[name] = tensor
    return changed


def _is_equal(tensor: "Tensor", reference: "Tensor") -> bool:
    # Exact: a tensor that training did not touch keeps its bits, and a small change counts.
    return bool((tensor.detach().cpu() == reference.cpu()).all())


def _head(net: "Net") -> "list[Edit]":
    return [edit for edit in net.edits if edit["kind"] == "set_head"][-1:]


def _load_tensors(net: "Net", tensors: "Mapping[str, Tensor]", bare: set[str]) -> None:
    """Load an adapter's tensors, which must include every tensor that the bare body lacks."""
    from effxfer.net.merge import base_name

    state = net.state_dict(keep_vars=True)
    filled = {id(state[name]) for name in tensors if name in state}
    wrong = [name for name in tensors if name not in state or state[name].shape != tensors[name].shape]
    wrong += [name for name, held in state.items() if base_name(name) not in bare and id(held) not in filled]
    if wrong:
        raise misfit_error("the adapter's tensors", wrong, "E405", "make the adapter again")
    # Not strict: the body's own tensors are not in the file. What must be there was checked above.
    net.load_state_dict(dict(tensors), strict=False)
