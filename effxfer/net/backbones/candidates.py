"""Choose the network in a checkpoint that fits a body; among several, the one that is used by convention.

A checkpoint may hold one network several times: raw weights and their average, a student and its teacher. Each is a
table of its own, or shares a table under its own prefix. `PREFERRED` or the user decides which of several is loaded.
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
from effxfer.net.backbones.checkpoint import abbreviate, read_tables

# Words that wrappers insert into names: torch.compile, FSDP, activation checkpointing, DeepSpeed, DataParallel.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "module")
# A fitting network is preferred if its path in the file matches the first pattern and its rival's matches the second.
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
        label: Dotted path of its table and prefix within the file; empty for the whole file.
        state: Its tensors, by the body's names.
        outside: Tensors of the same table without its prefix.
        required: The body's tensors, all of which it must contain.
        conversion: How its names and shapes were converted to the body's; empty if they were equal.
    """

    label: str
    state: Mapping[str, Tensor]
    outside: Mapping[str, Tensor]
    required: Mapping[str, Tensor]
    conversion: str = ""

    @property
    def missing_names(self) -> list[str]:
        """Names of the body that this network lacks."""
        return [name for name in self.required if name not in self.state]

    @property
    def mismatched_names(self) -> list[str]:
        """Names whose shape differs from the body's."""
        return [n for n, tensor in self.required.items() if n in self.state and self.state[n].shape != tensor.shape]

    @property
    def matched_count(self) -> int:
        """Number of the body's tensors that it contains in the right shape."""
        return len(self.required) - len(self.missing_names) - len(self.mismatched_names)

    @property
    def fits(self) -> bool:
        """Whether it contains all of the body's tensors."""
        return self.matched_count == len(self.required)

    @property
    def parts(self) -> list[str]:
        """The words of its label."""
        return self.label.split(".") if self.label else []


def choose_network(body: nn.Module, file: Path, part: str = "") -> tuple[Candidate, tuple[str, ...]]:
    """Choose the network of a weights file that is loaded into a body.

    Args:
        body: The network to load into.
        file: A weights file.
        part: Which of several, by its path in the file (`state_dict.encoder_q`) or words of it (`encoder_q`); empty for
            the conventional one.

    Returns:
        The network, which may still not fit, and notes on the other networks in the file.

    Raises:
        ModelFileError: If the file cannot be read, holds no such part, or several without a preferred one.
    """
    networks = list_candidates(body, read_tables(file))
    named = [network for network in networks if f"{network.label}.".startswith(f"{part}.")] if part else networks
    named = named or [network for network in networks if f".{part}." in f".{network.label}."]
    if not named:
        # A block's names may match by chance below another's.
        half = max(network.matched_count for network in networks) / 2
        labels = sorted({network.label or "(the file itself)" for network in networks if network.matched_count >= half})
        raise ModelFileError(f"{file} has no network {part!r}", f"it has {abbreviate(labels, 20)}", code="E415")
    fitting = [network for network in named if network.fits]
    if len(fitting) < 2:
        return (fitting or [max(named, key=lambda network: network.matched_count)])[0], ()
    return _choose_preferred(fitting, file)


def list_candidates(body: nn.Module, tables: Mapping[str, Mapping[str, Tensor]]) -> list[Candidate]:
    """List the networks in tables of tensors; if none fits, those that the body's library can convert."""
    required = {name: tensor for name, tensor in body.state_dict().items() if not name.endswith("num_batches_tracked")}
    networks = [
        network
        for path, table in tables.items()
        for network in _split_by_prefix(path, _unwrap_names(table, required), required)
    ]
    if any(network.fits for network in networks):
        return networks
    return [converted for network in networks if (converted := _convert_by_library(body, network)).fits] or networks


def _split_by_prefix(path: str, table: Mapping[str, Tensor], required: Mapping[str, Tensor]) -> list[Candidate]:
    """List one network for each prefix that is followed by a name of the body; without any, the whole table."""
    ends = {name: ["", *accumulate(f"{word}." for word in name.split(".")[:-1])] for name in table}
    prefixes = dict.fromkeys(start for name in table for start in ends[name] if name[len(start) :] in required)
    return [
        Candidate(
            label=".".join(filter(None, (path, prefix.rstrip(".")))),
            state={name.removeprefix(prefix): tensor for name, tensor in table.items() if name.startswith(prefix)},
            outside={name: tensor for name, tensor in table.items() if not name.startswith(prefix)},
            required=required,
        )
        for prefix in prefixes or [""]
    ]


def _unwrap_names(table: Mapping[str, Tensor], required: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the words that wrappers insert into names, except those that the body itself uses."""
    body_words = {word for name in required for word in name.split(".")}
    drop = {word for word in WRAPPERS if word not in body_words}
    short = {name: ".".join(word for word in name.split(".") if word not in drop) for name in table}
    plain = {name: tensor for name, tensor in table.items() if short[name] == name}
    return {short[name]: tensor for name, tensor in table.items() if short[name] == name or short[name] not in plain}


def _convert_by_library(body: nn.Module, network: Candidate) -> Candidate:
    """Convert names, position embeddings and first-layer channels to the body's by the code of timm or torchvision."""
    module, state = type(body).__module__, dict(network.state)
    try:
        if module.startswith("timm."):
            convert: Any = getattr(sys.modules.get(module), "checkpoint_filter_fn", None)
            state = _adapt_input_channels(body, convert(state, body) if convert else state)
        elif "encoder.pos_embedding" in state:
            from torchvision.models.vision_transformer import interpolate_embeddings

            state = dict(interpolate_embeddings(body.image_size, body.patch_size, state))
    except Exception:  # the converters expect intact files of certain trainers and raise anything for others
        return network
    conversion = f"{network.label or 'its'} names and shapes converted by {module.partition('.')[0]}'s own code"
    return Candidate(network.label, state, network.outside, network.required, conversion)


def _adapt_input_channels(body: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sum or repeat the input channels of timm's first layers to match the body."""
    from timm.models import adapt_input_conv

    first = (getattr(body, "pretrained_cfg", None) or {}).get("first_conv") or ()
    for name in [f"{layer}.weight" for layer in ([first] if isinstance(first, str) else first)]:
        channels = body.get_parameter(name).shape[1]
        if state[name].shape[1] != channels:
            state = {**state, name: adapt_input_conv(channels, state[name])}
    return state


def _choose_preferred(fitting: list[Candidate], file: Path) -> tuple[Candidate, tuple[str, ...]]:
    labels = [network.label or "(the file itself)" for network in fitting]
    for network, label in zip(fitting, labels, strict=True):
        reasons = [_preference(network, rival) for rival in fitting if rival is not network]
        if all(reasons):
            unused = abbreviate([name for name in labels if name != label])
            return network, (
                f"{file.name}: loaded {label}, {reasons[0]}, not {unused}; write @{file.name}#NAME for another",
            )
    if all(_are_equal(fitting[0], rival) for rival in fitting[1:]):
        return fitting[0], ()
    text = f"{file} holds several networks that fit: {abbreviate(labels, 20)}"
    raise ModelFileError(text, f"name one: @{file}#{labels[-1]}", code="E415")


def _preference(network: Candidate, rival: Candidate) -> str:
    """Return the convention by which a network is preferred to its rival; empty if there is none."""
    words, rival_words = _words(network) - _words(rival), _words(rival) - _words(network)
    for preferred, passed_over, convention in PREFERRED:
        if _matches_only(preferred, words, rival_words) and _matches_only(passed_over, rival_words, words):
            return convention
    return ""


def _matches_only(pattern: str, words: set[str], rival_words: set[str]) -> bool:
    return not pattern or (
        any(re.search(pattern, w) for w in words) and not any(re.search(pattern, w) for w in rival_words)
    )


def _words(network: Candidate) -> set[str]:
    """Return the words of a label.

    mmengine, recognized by its counter `steps`, swaps the two: its `ema_state_dict` holds the raw weights.
    """
    swapped = "ema_state_dict" in network.parts and "steps" in {*network.state, *network.outside}
    return {"momentum" if swapped and word == "ema_state_dict" else word.lower() for word in network.parts}


def _are_equal(first: Candidate, second: Candidate) -> bool:
    return all(torch.equal(first.state[name], second.state[name]) for name in first.required)
