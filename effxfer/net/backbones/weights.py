"""Load foreign weights into a body: matching tensors are loaded, superfluous ones are dropped and named.

A file is loaded completely or refused; no body is ever loaded in part.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError
from effxfer.net.backbones.candidates import Candidate, choose_network
from effxfer.net.backbones.checkpoint import abbreviate

HEADS = (
    "fc", "head", "classifier", "linear", "heads", "head_drop", "last_linear",
    "AuxLogits", "aux1", "aux2", "projector", "projection_head", "predictor",
)  # fmt: skip
# Tensors that trainers save beside a network's own: losses, metrics, preprocessing, queues, operation counters.
SIDE = re.compile(
    r"loss|criterion|metric|(^|_)(acc|accuracy|auroc|auc|f1|map|confmat|precision|recall)(_|$)|^queue|^ema_"
    r"|^total_(ops|params)$|input|normaliz|^(mean|std)$|^_extra_state$"
)


def load_weights(body: nn.Module, file: Path, part: str = "") -> tuple[str, ...]:
    """Load a weights file into a body; prefixes and tensors outside the network are dropped, the rest must fit.

    Args:
        body: The network to load into.
        file: See `effxfer.net.backbones.checkpoint.read_tables`.
        part: See `effxfer.net.backbones.candidates.choose_network`.

    Returns:
        Notes on the tensors that were chosen, dropped or converted.

    Raises:
        ModelFileError: If the file is absent, holds code, is truncated, has NaN, or does not fit.
    """
    network, notes = choose_network(body, file, part)
    expected = body.state_dict()
    extra = [name for name in network.state if name not in expected]
    if not network.fits:
        raise ModelFileError(f"{file} does not fit: {_misfit(network, extra)}", code="E405")
    if unexpected := [name for name in extra if not is_head(name) and not _is_auxiliary(name, network.state[name])]:
        text = f"{file} has tensors that the network lacks: {abbreviate(unexpected)}"
        raise ModelFileError(text, "check `args`", code="E406")
    matching = {name: t for name, t in network.state.items() if name in expected and t.shape == expected[name].shape}
    body.load_state_dict(convert_tensors(matching, expected, file), strict=False)
    notes += (f"{file.name}: {network.conversion}",) if network.conversion else ()
    return notes + dtype_notes(matching, expected, file) + _dropped_notes([*extra, *network.outside], file)


def load_classifier(body: nn.Module, file: Path, part: str, width: int) -> nn.Linear | None:
    """Load the linear classifier that a weights file holds beside a body.

    Args:
        body: The network that the file is for.
        file: A weights file.
        part: See `effxfer.net.backbones.candidates.choose_network`.
        width: Input features of the classifier.

    Returns:
        The layer; None if the file has none of this width, or several.

    Raises:
        ModelFileError: If the file is unreadable.
    """
    network, _ = choose_network(body, file, part)
    return classifier_in(network.state, width) or classifier_in(network.outside, width)


def classifier_in(state: Mapping[str, Tensor], width: int) -> nn.Linear | None:
    """Return the only linear classifier in a table of tensors that takes `width` features, or None."""
    matches = [
        name
        for name, t in state.items()
        if is_head(name) and name.endswith("weight") and t.dim() == 2 and t.shape[1] == width and not _unfit_reason(t)
    ]
    if len(matches) != 1:
        return None
    weight, bias = state[matches[0]], state.get(f"{matches[0].removesuffix('weight')}bias")
    layer = nn.Linear(width, len(weight), bias=bias is not None)
    layer.load_state_dict({"weight": weight, **({} if bias is None else {"bias": bias})})
    return layer


def is_head(name: str) -> bool:
    """Whether a tensor of this name belongs to a classifier."""
    return any(part in HEADS for part in name.split("."))


def _is_auxiliary(name: str, tensor: Tensor) -> bool:
    """Whether a trainer saves this tensor beside a network, judged by its name or because it is a single number."""
    first, _, _ = name.partition(".")
    return tensor.dim() == 0 or any(SIDE.search(word) for word in (first, name.rpartition(".")[2]))


def convert_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Convert tensors to the body's layout and dtype.

    Raises:
        ModelFileError: If a tensor cannot be converted (`E409`), or holds NaN or infinity (`E407`).
    """
    if unusable := [f"{name} is {reason}" for name, tensor in tensors.items() if (reason := _unfit_reason(tensor))]:
        text, hint = (
            f"{file} has tensors that are no plain numbers: {abbreviate(unusable)}",
            "save them as float32 on the CPU",
        )
        raise ModelFileError(text, hint, code="E409")
    plain = {name: _to_dense(tensor).to(expected[name].dtype) for name, tensor in tensors.items()}
    if bad := [name for name, tensor in plain.items() if not bool(tensor.isfinite().all())]:
        raise ModelFileError(f"{file} has NaN or infinity in {abbreviate(bad)}", "get an intact copy", code="E407")
    return plain


def _unfit_reason(tensor: Tensor) -> str:
    """Return why a tensor cannot be loaded as a weight; empty if it can."""
    reasons = {
        f"a {type(tensor).__name__}": type(tensor) not in (Tensor, nn.Parameter),
        "without data": tensor.is_meta,
        f"on {tensor.device}": tensor.device.type not in ("cpu", "meta"),
        str(tensor.dtype).removeprefix("torch."): tensor.is_complex(),
    }
    return ", ".join(reason for reason, holds in reasons.items() if holds)


def _to_dense(tensor: Tensor) -> Tensor:
    plain = tensor.detach().dequantize() if tensor.is_quantized else tensor.detach()
    return plain if plain.layout is torch.strided else plain.to_dense()


def dtype_notes(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: Path) -> tuple[str, ...]:
    """Note tensors whose dtype or layout differs from the body's float32 (`W409`)."""
    kinds = Counter(_kind(tensor) for name, tensor in tensors.items() if expected[name].is_floating_point())
    converted = {kind: count for kind, count in kinds.items() if kind != "float32"}
    texts = [f"{count} tensor{'s are' if count > 1 else ' is'} {kind}" for kind, count in sorted(converted.items())]
    return (f"W409 {file.name}: {', '.join(texts)}, converted to float32",) if texts else ()


def _kind(tensor: Tensor) -> str:
    layout = "" if tensor.layout is torch.strided else f"{str(tensor.layout).removeprefix('torch.')} "
    return layout + str(tensor.dtype).removeprefix("torch.")


def _dropped_notes(names: Iterable[str], file: Path) -> tuple[str, ...]:
    heads = [name for name in names if is_head(name)]
    auxiliary = [name for name in names if not is_head(name)]
    notes = (f"{file.name}: classifier not loaded ({abbreviate(heads)})",) if heads else ()
    return notes + (
        (f"{file.name}: not loaded, not part of the network: {abbreviate(auxiliary)}",) if auxiliary else ()
    )


def _misfit(network: Candidate, extra: list[str]) -> str:
    missing, state, required = network.missing_names, network.state, network.required
    shapes = [f"{k} is {tuple(state[k].shape)}, not {tuple(required[k].shape)}" for k in network.mismatched_names]
    parts = [f"{len(missing)} missing ({abbreviate(missing)})" if missing else "", abbreviate(shapes)]
    parts += [f"{len(extra)} unknown ({abbreviate(extra)})" if extra else ""]
    return "; ".join(part for part in parts if part)
