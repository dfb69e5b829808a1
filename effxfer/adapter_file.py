"""An adapter as one file: what was trained on a frozen body, and which body that was.

Small beside the body, so that one body serves many tasks. The layout is that of a ticket's file: safetensors with one
document. Reading one needs no torch; only putting it on a network does.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from effxfer.documents import AdapterDocument, fault
from effxfer.errors import ModelFileError
from effxfer.files import digest
from effxfer.report import Measurement, Report
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.signed_safetensors import Kind, altered, damaged, dump, load, raw_of, sha256

if TYPE_CHECKING:
    from torch import Tensor

    from effxfer.net.net import Edit, Net

KIND = Kind(name="adapter", document="effxfer.adapter", make="make one with `effxfer finetune --strategy lora`")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What an adapter's document says.

    Attributes:
        strategy: A key of `STRATEGIES`.
        base: Digest of the body that it was trained on: architecture, weights, buffers and masks.
        backbone: That body before its edits: `{"source": ..., "args": {...}}`, to name it to a person.
        edits: What puts the head behind the body and the adapter on it, in order.
        preprocess: What the network's input must look like.
        classes: Names of the head's columns.
        smoothing: As in `Manifest`.
        trained: How many numbers were trained, head included.
        everything: How many parameters the network has with them.
        tensors: SHA-256 of what is in the file.
        recipe: Settings of the stage that trained it.
        origin: As in a ticket's facts.
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
    schema: int = KIND.schema

    @property
    def identity(self) -> str:
        """Digest of what determines the adapted network."""
        parts = ("schema", "base", "edits", "preprocess", "classes", "smoothing", "tensors")
        return digest({part: getattr(self, part) for part in parts})


@dataclass(frozen=True, eq=False)
class AdapterFile:
    """An adapter, checked.

    Attributes:
        facts: What it says of itself.
        content: The file's bytes.
    """

    facts: Facts
    content: bytes

    def telling(self, **origin: Any) -> "AdapterFile":
        """Give the same adapter with more said about where it came from."""
        from safetensors.torch import load as read

        document = {**asdict(self.facts), "origin": {**self.facts.origin, **origin}}
        return AdapterFile(Facts(**document), dump(read(self.content), document, KIND.document))

    def put_on(self, net: "Net", whose: str) -> "Net":
        """Put the adapter, and its head in place of another, on the body that it was trained on.

        Args:
            net: Changed in place.
            whose: Where it comes from, to name it in errors.

        Raises:
            ModelFileError: If the body is another (E411), or the file does not fit what it says (E405).
        """
        from safetensors.torch import load as read

        from effxfer.net.backbones.recorded import rebuilding
        from effxfer.net.edits import apply_edit
        from effxfer.net.merge import adapters, base_state

        if adapters(net):
            text = f"{whose} has an adapter already ({adapters(net)[0]['kind']}), which is not merged"
            raise ModelFileError(text, "name the network that both were put on", code="E411")
        found, bare = base_digest(net), set(base_state(net))
        if found != self.facts.base:
            text = f"{whose} is not what the adapter was trained on: its digest is {found}, not {self.facts.base}"
            hint = f"name the {self.facts.backbone['source']} with the weights it had then"
            raise ModelFileError(text, hint, code="E411")
        _behead(net)
        with rebuilding("the adapter", len(self.content)):
            for edit in self.facts.edits:
                apply_edit(net, **edit)
        _fill(net, read(self.content), bare)
        net.classes, net.preprocess = tuple(self.facts.classes), Preprocess.from_json(self.facts.preprocess)
        net.smoothing = self.facts.smoothing
        return net.eval()


def base_digest(net: "Net", state: "Mapping[str, Tensor] | None" = None) -> str:
    """Digest a network's body without its adapters: architecture, weights, buffers and masks.

    Args:
        net: Any.
        state: What `base_state` gave at another time; None is now.
    """
    from effxfer.net.edits import body_edits
    from effxfer.net.merge import adapters, base_state

    held = adapters(net)
    edits = [edit for edit in body_edits(net.edits) if edit not in held]
    return digest([dict(net.backbone), edits, sha256(raw_of(base_state(net) if state is None else state))])


def pack(
    net: "Net", base: "Mapping[str, Tensor]", *, strategy: str, trained: int,
    recipe: Mapping[str, Any], origin: Mapping[str, Any],
) -> AdapterFile:  # fmt: skip
    """Make a file of what adapts a network, before it is merged.

    Args:
        net: With its adapters and its head.
        base: What `base_state` gave before training, copied.
        strategy: As in `Facts`.
        trained: As in `Facts`.
        recipe: As in `Facts`.
        origin: As in `Facts`.
    """
    from effxfer.net.merge import adapters

    facts = Facts(
        strategy=strategy, base=base_digest(net, base), backbone=net.backbone, edits=[*_head(net), *adapters(net)],
        preprocess=net.preprocess.to_json(), classes=list(net.classes), smoothing=net.smoothing, trained=trained,
        everything=sum(p.numel() for p in net.parameters()), tensors="", recipe=recipe, origin=origin,
    )  # fmt: skip
    tensors = _changed(net, base)
    document = json.loads(json.dumps({**asdict(facts), "tensors": sha256(raw_of(tensors))}, allow_nan=False))
    return AdapterFile(Facts(**document), dump(tensors, document, KIND.document))


def unpack(content: bytes, name: str = "the adapter") -> AdapterFile:
    """Read an adapter, and check everything that can be checked without its network.

    Args:
        content: The file's bytes.
        name: What to call it in errors.

    Raises:
        ModelFileError: If it is no adapter, is truncated, was altered, or is of another schema.
    """
    tensors, document = load(content, name, KIND)
    if why := fault(AdapterDocument, document):
        raise damaged(name, why)
    facts = Facts(**document)
    if (found := sha256(tensors)) != facts.tensors:
        raise altered(name, f"SHA-256 of its tensors is {found[:12]}, not {str(facts.tensors)[:12]}")
    return AdapterFile(facts, content)


def describe(adapter: AdapterFile) -> Report:
    """Say how large an adapter is, for which classes, of which network, where it was trained, and how."""
    facts = adapter.facts
    reached = facts.origin.get("reached", {})
    fit, tasks = facts.recipe.get("fit"), ", ".join(str(one.get("name")) for one in facts.origin.get("data", ()))
    known = fit if isinstance(fit, Mapping) else {}
    told = ", ".join(f"{name} {known[name]}" for name in ("epochs", "optimizer", "lr", "schedule") if name in known)
    classes = ", ".join(facts.classes[:8]) + (" ..." if len(facts.classes) > 8 else "")
    return sizes(adapter) + Report(
        rows=tuple(Measurement(name=f"{n} where trained", value=value, unit="%") for n, value in reached.items()),
        notes=(
            f"network: {facts.backbone['source']}, {facts.preprocess['size']} px, digest {facts.base}",
            f"classes: {classes}",
            f"trained by {facts.strategy} on {tasks}, {told}",
        ),
    )


def sizes(adapter: AdapterFile) -> Report:
    """Say how much was trained, and how large the file is."""
    facts = adapter.facts
    share = 100 * facts.trained / max(facts.everything, 1)
    return Report(
        rows=(
            Measurement(name="trained", value=share, unit="%", of="all parameters", n=facts.everything),
            Measurement(name="trained parameters", value=facts.trained / 1e6, unit="M"),
            Measurement(name="adapter file", value=len(adapter.content) / 1e6, unit="MB"),
        )
    )


def _changed(net: "Net", base: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """What the base does not have: what adapters brought, once each, the head, and what moved in the body."""
    from effxfer.net.merge import base_name, base_state

    own, seen, found = base_state(net), set[int](), dict[str, "Tensor"]()
    for name, tensor in net.state_dict(keep_vars=True).items():
        known = base_name(name)
        if id(tensor) in seen or (known in own and _same(tensor, base[known])):
            continue
        seen.add(id(tensor))
        found[name] = tensor
    return found


def _same(one: "Tensor", other: "Tensor") -> bool:
    return bool((one.detach().cpu() == other.cpu()).all())


def _head(net: "Net") -> "list[Edit]":
    return [edit for edit in net.edits if edit["kind"] == "set_head"][-1:]


def _behead(net: "Net") -> None:
    """Forget how a network's head came to be, with the masks on it: another one takes its place."""
    from effxfer.net.edits import body_edits
    from effxfer.net.net import KEEP

    net.edits = body_edits(net.edits)
    for name in [name for name, _ in net.named_buffers(recurse=False) if name.startswith(KEEP + "head/")]:
        delattr(net, name)


def _fill(net: "Net", tensors: "Mapping[str, Tensor]", bare: set[str]) -> None:
    """Load an adapter's tensors; all that is not of the bare body must be among them."""
    from effxfer.net.merge import base_name

    state = net.state_dict(keep_vars=True)
    filled = {id(state[name]) for name in tensors if name in state}
    wrong = [name for name in tensors if name not in state or state[name].shape != tensors[name].shape]
    wrong += [name for name, held in state.items() if base_name(name) not in bare and id(held) not in filled]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        text = f"the adapter's tensors do not fit its network: {', '.join(wrong[:5])}{more}"
        raise ModelFileError(text, "make the adapter again", code="E405")
    net.load_state_dict(dict(tensors), strict=False)
