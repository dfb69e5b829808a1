"""Weights files: tensors by name out of other people's files, without running code, and into a body.

What fits is loaded, the classifier is left out, everything else is named.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from effxfer.errors import ModelFileError

PREFIXES = ("module.", "model.", "backbone.", "body.", "encoder.", "net.", "_orig_mod.")
NESTS = ("state_dict", "model", "model_state", "state_dict_ema", "model_ema", "net")
PICKLES = (b"PK", b"\x80")
HEADS = ("fc", "head", "classifier", "linear", "heads", "head_drop", "last_linear")


def load_weights(body: nn.Module, file: Path) -> tuple[str, ...]:
    """Load a weights file into a body: prefixes are stripped, the classifier is left out, everything else must fit.

    Returns:
        Notes on what was left out.

    Raises:
        ModelFileError: If the file is absent, holds code, is truncated, has NaN, or does not fit; with a table.
    """
    state = _strip(read_state(file), set(body.state_dict()))
    wanted = {k: v for k, v in body.state_dict().items() if not k.endswith("num_batches_tracked")}
    missing = [k for k in wanted if k not in state]
    wrong = [k for k in wanted if k in state and state[k].shape != wanted[k].shape]
    left = [k for k in state if k not in body.state_dict()]
    if missing or wrong:
        raise ModelFileError(f"{file} does not fit: {_misfit(missing, wrong, left, state, wanted)}", code="E405")
    odd = [k for k in left if not is_head(k)]
    if odd:
        raise ModelFileError(f"{file} has tensors that the network lacks: {_some(odd)}", "check `args`", code="E406")
    body.load_state_dict({k: v for k, v in state.items() if k not in left}, strict=False)
    return (f"{file.name}: classifier left out ({_some(left)})",) if left else ()


def read_state(file: Path) -> dict[str, Tensor]:
    """Read tensors by name from `.safetensors` or a weights-only `.pth`/`.pt`/`.bin`; never runs code.

    Raises:
        ModelFileError: If that is impossible, or a tensor holds NaN or infinity.
    """
    if not file.is_file():
        raise ModelFileError(f"no weights file {file}", "give the path of a .safetensors or .pth file")
    state = _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)
    bad = [name for name, t in state.items() if t.is_floating_point() and not bool(t.isfinite().all())]
    if bad:
        raise ModelFileError(f"{file} has NaN or infinity in {_some(bad)}", "get an intact copy", code="E407")
    return state


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{file} is not a complete safetensors file: {error}", code="E403") from error


def _read_torch(file: Path) -> dict[str, Tensor]:
    from pickle import UnpicklingError
    from warnings import catch_warnings, simplefilter

    with file.open("rb") as stream:
        start = stream.read(2)
    try:
        with catch_warnings():
            simplefilter("ignore")
            raw = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise anything
        if isinstance(error, UnpicklingError) and start.startswith(PICKLES):
            hint = "save its state_dict() with safetensors where you trust it"
            raise ModelFileError(f"{file} holds code, not only tensors: refused", hint, code="E401") from error
        why = str(error).partition("\n")[0] if start.startswith(PICKLES) else "it does not begin like one"
        raise ModelFileError(f"{file} is not a complete weights file: {why}", code="E403") from error
    while nest := next((n for n in NESTS if isinstance(raw, Mapping) and isinstance(raw.get(n), Mapping)), None):
        raw = raw[nest]
    if not isinstance(raw, Mapping) or not all(isinstance(v, Tensor) for v in raw.values()):
        raise ModelFileError(f"{file} is not a table of tensors", "save the network's state_dict()", code="E402")
    return dict(raw)


def _strip(state: dict[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    """Take off those leading prefixes, one after the other, without which the most names fit."""
    best, tried = state, [state]
    while tried:
        tried = [
            {name.removeprefix(prefix): tensor for name, tensor in one.items()}
            for one in tried
            for prefix in PREFIXES
            if any(name.startswith(prefix) for name in one)
        ]
        best = max([best, *tried], key=lambda one: len(wanted & one.keys()))
    return best


def is_head(name: str) -> bool:
    """Whether a tensor of this name belongs to a classifier."""
    return any(part in HEADS for part in name.split("."))


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _misfit(
    missing: list[str], wrong: list[str], left: list[str], state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> str:
    shapes = [f"{k} is {tuple(state[k].shape)}, not {tuple(wanted[k].shape)}" for k in wrong]
    parts = [f"{len(missing)} missing ({_some(missing)})" if missing else "", _some(shapes)]
    parts += [f"{len(left)} unknown ({_some(left)})" if left else ""]
    return "; ".join(part for part in parts if part)
