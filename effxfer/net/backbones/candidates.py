"""Which of the networks in a checkpoint to take: what fits the body, and of several the one that the field takes.

A checkpoint may hold one network several times: its raw weights and their average, a student and its teacher. Each is
a table of its own, or has its own prefix in one table. What is taken of several is `PREFERRED`'s, or the user's.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError
from effxfer.net.backbones.checkpoint import read_tables, some

# What wrappers put between names of modules: torch.compile, FSDP, activation checkpointing, DeepSpeed, DataParallel.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "module")
# Of two that fit, the first is taken where its place in the file matches the first pattern and the other's the second.
PREFERRED = (
    (r"(^|_)(ema|swa|averaged?)(_|$)", r"", "as timm does"),
    (r"^teacher", r"^student", "as DINO does"),
    (r"^target_encoder$", r"^encoder$", "as I-JEPA does"),
    (r"^encoder_q$", r"^encoder_k$", "as MoCo does"),
    (r"^base_encoder$", r"^momentum_encoder$", "as MoCo does"),
    (r"^online", r"^target", "as BYOL does"),
    (r"^state_dict$", r"^current_model_state$", "the average, as Lightning does"),
    (r"", r"momentum", "as solo-learn does"),
)


@dataclass(frozen=True, eq=False)
class Candidate:
    """One network in a checkpoint.

    Attributes:
        label: Where it is: the table's place and the prefix of its names, with dots between; empty is the whole file.
        state: Its tensors, by the names that the body has.
        outside: The other tensors of the same table, whose names do not have its prefix.
        wanted: The body's tensors that it must bring.
        how: How its names and shapes were brought to the body's; empty if they were.
    """

    label: str
    state: Mapping[str, Tensor]
    outside: Mapping[str, Tensor]
    wanted: Mapping[str, Tensor]
    how: str = ""

    @property
    def missing(self) -> list[str]:
        """Names that the body has and this network has not."""
        return [name for name in self.wanted if name not in self.state]

    @property
    def wrong(self) -> list[str]:
        """Names whose shape is not the body's."""
        return [n for n, tensor in self.wanted.items() if n in self.state and self.state[n].shape != tensor.shape]

    @property
    def matched(self) -> int:
        """How many of the body's tensors it brings."""
        return len(self.wanted) - len(self.missing) - len(self.wrong)

    @property
    def fits(self) -> bool:
        """Whether it brings all of them."""
        return self.matched == len(self.wanted)

    @property
    def parts(self) -> list[str]:
        """The label, word by word."""
        return self.label.split(".") if self.label else []


def choose(body: nn.Module, file: Path, part: str = "") -> tuple[Candidate, tuple[str, ...]]:
    """Choose the network of a weights file that goes into a body.

    Args:
        body: Any.
        file: A weights file.
        part: Which of several, by its place in the file (`state_dict.encoder_q`) or words of it (`encoder_q`); empty is
            what the field takes.

    Returns:
        The network, which may still not fit, and notes on others that were there.

    Raises:
        ModelFileError: If the file cannot be read, holds no such part, or several and nothing says which.
    """
    found = candidates(body, read_tables(file))
    named = [one for one in found if f"{one.label}.".startswith(f"{part}.")] if part else found
    named = named or [one for one in found if f".{part}." in f".{one.label}."]
    if not named:
        whole = max(one.matched for one in found) / 2  # a block's names may be found below the stem's, and mean nothing
        places = sorted({one.label or "(the file itself)" for one in found if one.matched >= whole})
        raise ModelFileError(f"{file} has no network {part!r}", f"it has {some(places, 20)}", code="E415")
    fitting = [one for one in named if one.fits]
    if len(fitting) < 2:
        return (fitting or [max(named, key=lambda one: one.matched)])[0], ()
    return _one_of(fitting, file)


def candidates(body: nn.Module, tables: Mapping[str, Mapping[str, Tensor]]) -> list[Candidate]:
    """List the networks in tables of tensors; where none fits, also what its library makes of them for the body."""
    wanted = {name: tensor for name, tensor in body.state_dict().items() if not name.endswith("num_batches_tracked")}
    found = [one for path, table in tables.items() for one in _in_table(path, _unwrapped(table, wanted), wanted)]
    if any(one.fits for one in found):
        return found
    return [converted for one in found if (converted := _by_library(body, one)).fits] or found


def _in_table(path: str, table: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[Candidate]:
    """Give a network for each prefix below which names of the body are found; without any, the table as it is."""
    ends = {name: ["", *accumulate(f"{word}." for word in name.split(".")[:-1])] for name in table}
    prefixes = dict.fromkeys(start for name in table for start in ends[name] if name[len(start) :] in wanted)
    return [
        Candidate(
            label=".".join(filter(None, (path, prefix.rstrip(".")))),
            state={name.removeprefix(prefix): tensor for name, tensor in table.items() if name.startswith(prefix)},
            outside={name: tensor for name, tensor in table.items() if not name.startswith(prefix)},
            wanted=wanted,
        )
        for prefix in prefixes or [""]
    ]


def _unwrapped(table: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the words out of names that wrappers put there, but for those that the body itself uses."""
    own = {word for name in wanted for word in name.split(".")}
    drop = {word for word in WRAPPERS if word not in own}
    short = {name: ".".join(word for word in name.split(".") if word not in drop) for name in table}
    plain = {name: tensor for name, tensor in table.items() if short[name] == name}
    return {short[name]: tensor for name, tensor in table.items() if short[name] == name or short[name] not in plain}


def _by_library(body: nn.Module, network: Candidate) -> Candidate:
    """Bring other names of a network of timm, position embeddings of another size, and a first layer for another
    number of channels to this body's, as timm and torchvision do it.
    """  # noqa: D205
    module, state = type(body).__module__, dict(network.state)
    try:
        if module.startswith("timm."):
            convert: Any = getattr(sys.modules.get(module), "checkpoint_filter_fn", None)
            state = _other_channels(body, convert(state, body) if convert else state)
        elif "encoder.pos_embedding" in state:
            from torchvision.models.vision_transformer import interpolate_embeddings

            state = dict(interpolate_embeddings(body.image_size, body.patch_size, state))
    except Exception:  # made for intact files of certain trainers: of others it raises anything
        return network
    how = f"{network.label or 'its'} names and shapes brought to the network's as {module.partition('.')[0]} does"
    return Candidate(network.label, state, network.outside, network.wanted, how)


def _other_channels(body: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sum up, or repeat, the channels that a first layer of timm sees."""
    from timm.models import adapt_input_conv

    first = (getattr(body, "pretrained_cfg", None) or {}).get("first_conv") or ()
    for name in [f"{layer}.weight" for layer in ([first] if isinstance(first, str) else first)]:
        channels = body.get_parameter(name).shape[1]
        if state[name].shape[1] != channels:
            state = {**state, name: adapt_input_conv(channels, state[name])}
    return state


def _one_of(fitting: list[Candidate], file: Path) -> tuple[Candidate, tuple[str, ...]]:
    labels = [one.label or "(the file itself)" for one in fitting]
    for one, label in zip(fitting, labels, strict=True):
        reasons = [_preference(one, other) for other in fitting if other is not one]
        if all(reasons):
            others = some([name for name in labels if name != label])
            return one, (
                f"{file.name}: {label} taken, {reasons[0]}, not {others}; write @{file.name}#NAME for another",
            )
    if all(_equal(fitting[0], other) for other in fitting[1:]):
        return fitting[0], ()
    text = f"{file} holds several networks that fit: {some(labels, 20)}"
    raise ModelFileError(text, f"name one: @{file}#{labels[-1]}", code="E415")


def _preference(one: Candidate, other: Candidate) -> str:
    """Say by whose custom one network is preferred to another; empty if it is not."""
    mine, others = _words(one) - _words(other), _words(other) - _words(one)
    for this, that, custom in PREFERRED:
        if _matches(this, mine, others) and _matches(that, others, mine):
            return custom
    return ""


def _matches(pattern: str, words: set[str], others: set[str]) -> bool:
    return not pattern or (any(re.search(pattern, w) for w in words) and not any(re.search(pattern, w) for w in others))


def _words(network: Candidate) -> set[str]:
    """Give the words of a label; mmengine, which counts `steps`, saves raw weights where others have the average."""
    swapped = "ema_state_dict" in network.parts and "steps" in {*network.state, *network.outside}
    return {"momentum" if swapped and word == "ema_state_dict" else word.lower() for word in network.parts}


def _equal(one: Candidate, other: Candidate) -> bool:
    return all(torch.equal(one.state[name], other.state[name]) for name in one.wanted)
