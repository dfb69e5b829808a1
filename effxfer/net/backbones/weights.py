"""Weights of others, into a body: what fits is loaded, what no body needs is left out and named.

A file is taken whole or refused: nothing is loaded by half.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError
from effxfer.net.backbones.candidates import Candidate, choose
from effxfer.net.backbones.checkpoint import some

HEADS = (
    "fc", "head", "classifier", "linear", "heads", "head_drop", "last_linear",
    "AuxLogits", "aux1", "aux2", "projector", "projection_head", "predictor",
)  # fmt: skip
# Tensors that trainers keep beside a network's own: losses, metrics, preprocessing, queues, counters of operations.
SIDE = re.compile(
    r"loss|criterion|metric|(^|_)(acc|accuracy|auroc|auc|f1|map|confmat|precision|recall)(_|$)|^queue|^ema_"
    r"|^total_(ops|params)$|preprocess|normaliz|^(mean|std)$|^_extra_state$"
)


def load_weights(body: nn.Module, file: Path, part: str = "") -> tuple[str, ...]:
    """Load a weights file into a body: prefixes and what is no part of the network are left out, the rest must fit.

    Args:
        body: Any.
        file: See `effxfer.net.backbones.checkpoint.read_tables`.
        part: See `effxfer.net.backbones.candidates.choose`.

    Returns:
        Notes on what was chosen, left out, or converted.

    Raises:
        ModelFileError: If the file is absent, holds code, is truncated, has NaN, or does not fit; with a table.
    """
    network, notes = choose(body, file, part)
    own = body.state_dict()
    left = [name for name in network.state if name not in own]
    if not network.fits:
        raise ModelFileError(f"{file} does not fit: {_misfit(network, left)}", code="E405")
    if odd := [name for name in left if not is_head(name) and not _is_side(name, network.state[name])]:
        raise ModelFileError(f"{file} has tensors that the network lacks: {some(odd)}", "check `args`", code="E406")
    taken = {name: t for name, t in network.state.items() if name in own and t.shape == own[name].shape}
    body.load_state_dict(_converted(taken, own, file), strict=False)
    notes += (f"{file.name}: {network.how}",) if network.how else ()
    return notes + _dtypes(taken, own, file) + _left_out([*left, *network.outside], file)


def load_classifier(body: nn.Module, file: Path, part: str, width: int) -> nn.Linear | None:
    """Give the linear classifier that a weights file holds beside a body, from features of a width to its classes.

    Returns:
        None if there is no such layer, or more than one.

    Raises:
        ModelFileError: If the file is unreadable.
    """
    network, _ = choose(body, file, part)
    return classifier_in(network.state, width) or classifier_in(network.outside, width)


def classifier_in(state: Mapping[str, Tensor], width: int) -> nn.Linear | None:
    """Give the one linear classifier from features of a width that is in a table of tensors, or None."""
    found = [
        name
        for name, t in state.items()
        if is_head(name) and name.endswith("weight") and t.dim() == 2 and t.shape[1] == width and not _odd(t)
    ]
    if len(found) != 1:
        return None
    weight, bias = state[found[0]], state.get(f"{found[0].removesuffix('weight')}bias")
    layer = nn.Linear(width, len(weight), bias=bias is not None)
    layer.load_state_dict({"weight": weight, **({} if bias is None else {"bias": bias})})
    return layer


def is_head(name: str) -> bool:
    """Whether a tensor of this name belongs to a classifier."""
    return any(part in HEADS for part in name.split("."))


def _is_side(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is what trainers keep beside a network: by its name, or because it is a single number."""
    first, _, _ = name.partition(".")
    return tensor.dim() == 0 or any(SIDE.search(word) for word in (first, name.rpartition(".")[2]))


def _converted(taken: Mapping[str, Tensor], own: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Give tensors as the body has them: dense, of its type.

    Raises:
        ModelFileError: If one cannot be, or holds what is no number.
    """
    if odd := [f"{name} is {why}" for name, tensor in taken.items() if (why := _odd(tensor))]:
        text, hint = f"{file} has tensors that are no plain numbers: {some(odd)}", "save them as float32 on the CPU"
        raise ModelFileError(text, hint, code="E409")
    plain = {name: _dense(tensor).to(own[name].dtype) for name, tensor in taken.items()}
    if bad := [name for name, tensor in plain.items() if not bool(tensor.isfinite().all())]:
        raise ModelFileError(f"{file} has NaN or infinity in {some(bad)}", "get an intact copy", code="E407")
    return plain


def _odd(tensor: Tensor) -> str:
    """Say why a tensor cannot be a weight; empty if it can."""
    reasons = {
        f"a {type(tensor).__name__}": type(tensor) not in (Tensor, nn.Parameter),
        "without data": tensor.is_meta,
        f"on {tensor.device}": tensor.device.type not in ("cpu", "meta"),
        str(tensor.dtype).removeprefix("torch."): tensor.is_complex(),
    }
    return ", ".join(reason for reason, holds in reasons.items() if holds)


def _dense(tensor: Tensor) -> Tensor:
    plain = tensor.detach().dequantize() if tensor.is_quantized else tensor.detach()
    return plain if plain.layout is torch.strided else plain.to_dense()


def _dtypes(taken: Mapping[str, Tensor], own: Mapping[str, Tensor], file: Path) -> tuple[str, ...]:
    """Say which tensors were of another type than the body's (`W409`)."""
    kinds = Counter(_kind(tensor) for name, tensor in taken.items() if own[name].is_floating_point())
    other = {kind: count for kind, count in kinds.items() if kind != "float32"}
    texts = [f"{count} tensor{'s are' if count > 1 else ' is'} {kind}" for kind, count in sorted(other.items())]
    return (f"W409 {file.name}: {', '.join(texts)}, taken as float32",) if texts else ()


def _kind(tensor: Tensor) -> str:
    layout = "" if tensor.layout is torch.strided else f"{str(tensor.layout).removeprefix('torch.')} "
    return layout + str(tensor.dtype).removeprefix("torch.")


def _left_out(names: Iterable[str], file: Path) -> tuple[str, ...]:
    heads = [name for name in names if is_head(name)]
    rest = [name for name in names if not is_head(name)]
    notes = (f"{file.name}: classifier left out ({some(heads)})",) if heads else ()
    return notes + ((f"{file.name}: left out as no part of the network: {some(rest)}",) if rest else ())


def _misfit(network: Candidate, left: list[str]) -> str:
    missing, state, wanted = network.missing, network.state, network.wanted
    shapes = [f"{k} is {tuple(state[k].shape)}, not {tuple(wanted[k].shape)}" for k in network.wrong]
    parts = [f"{len(missing)} missing ({some(missing)})" if missing else "", some(shapes)]
    parts += [f"{len(left)} unknown ({some(left)})" if left else ""]
    return "; ".join(part for part in parts if part)
