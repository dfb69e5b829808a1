"""Pretrained bodies: which weights go into which architecture, and what input they expect."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import EffxferError, ModelFileError, ResourceError
from effxfer.net.architectures import build_body, native_preprocess
from effxfer.net.net import Net
from effxfer.net.settings import BackboneSettings

PREFIXES = ("module.", "model.", "backbone.", "body.", "encoder.", "net.", "_orig_mod.")
NESTS = ("state_dict", "model", "model_state", "state_dict_ema", "model_ema", "net")
PICKLES = (b"PK", b"\x80")
HEADS = ("fc", "head", "classifier", "linear", "heads", "head_drop", "last_linear")


def open_backbone(settings: BackboneSettings) -> tuple[Net, tuple[str, ...]]:
    """Make a network with pretrained body and no head.

    Returns:
        The network, and notes on what was left out of or not found in a weights file.

    Raises:
        SettingsError: If there is no such network.
        ModelFileError: If the weights are unreadable or do not fit.
        ResourceError: If weights must be downloaded and there is no network.
    """
    source = settings.source.partition("@")[0]
    file = settings.weights_file()
    body = build_body(source, settings.args)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net({"source": source, "args": settings.args}, settings.adjust(native_preprocess(body, source)))
    if not settings.pretrained:
        return net, ()
    if file is not None:
        return net, load_weights(net.body, file)
    return net, _download(net.body, source, settings.args)


def source_classifier(settings: BackboneSettings, width: int) -> nn.Linear | None:
    """Give the linear classifier that a backbone was pretrained with, where its weights hold one.

    Args:
        settings: Which backbone.
        width: Of its features.

    Returns:
        From features to logits of the source's classes; None if there is no such layer, or more than one.

    Raises:
        ModelFileError: If the weights are unreadable.
    """
    source, file = settings.source.partition("@")[0], settings.weights_file()
    library, _, name = source.partition(":")
    if not settings.pretrained or (file is None and library != "timm"):
        return None
    state = read_state(file) if file else _classifier_timm(name, settings.args)
    found = [
        k for k, v in state.items() if _is_head(k) and k.endswith("weight") and v.dim() == 2 and v.shape[1] == width
    ]
    if len(found) != 1:
        return None
    weight, bias = state[found[0]], state.get(f"{found[0].removesuffix('weight')}bias")
    layer = nn.Linear(width, len(weight), bias=bias is not None)
    layer.load_state_dict({"weight": weight, **({} if bias is None else {"bias": bias})})
    return layer


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
    odd = [k for k in left if not _is_head(k)]
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


def _download(body: nn.Module, source: str, args: Mapping[str, Any]) -> tuple[str, ...]:
    library, _, name = source.partition(":")
    if library not in ("timm", "torchvision"):
        return (f"{source} has the weights that its factory gave it",)
    host = "huggingface.co" if library == "timm" else "download.pytorch.org"
    if not (_is_cached(body) if library == "timm" else _is_in_hub(name)):
        _preflight(host, source)
    try:
        state = _fetch_timm(name, args) if library == "timm" else _fetch_torchvision(name)
    except EffxferError:
        raise
    except Exception as error:
        raise _no_weights(source, f"{type(error).__name__} from {host}") from error
    body.load_state_dict({k: v for k, v in state.items() if k in body.state_dict()})
    return ()


def _fetch_timm(name: str, args: Mapping[str, Any]) -> dict[str, Tensor]:
    import timm

    state: dict[str, Tensor] = timm.create_model(name, pretrained=True, num_classes=0, **args).state_dict()
    return state


def _classifier_timm(name: str, args: Mapping[str, Any]) -> dict[str, Tensor]:
    import timm

    classifier: Any = timm.create_model(name, pretrained=True, **args).get_classifier()  # type: ignore[operator]
    state = classifier.state_dict()
    return {f"head.{key}": tensor for key, tensor in state.items()}


def _fetch_torchvision(name: str) -> dict[str, Tensor]:
    import torchvision

    state: dict[str, Tensor] = torchvision.models.get_model_weights(name).DEFAULT.get_state_dict(progress=False)
    return state


def _is_cached(body: nn.Module) -> bool:
    from huggingface_hub import try_to_load_from_cache

    hub = str((getattr(body, "pretrained_cfg", None) or {}).get("hf_hub_id") or "")
    files = ("model.safetensors", "pytorch_model.bin")
    return bool(hub) and any(isinstance(try_to_load_from_cache(hub, file), str) for file in files)


def _is_in_hub(name: str) -> bool:
    import torchvision

    file = Path(torchvision.models.get_model_weights(name).DEFAULT.url).name
    return Path(torch.hub.get_dir(), "checkpoints", file).is_file()


def _preflight(host: str, source: str) -> None:
    """Ask in at most three seconds whether a host can be reached at all; a configured proxy is trusted."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        raise _no_weights(source, "HF_HUB_OFFLINE is set")
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError as error:
        raise _no_weights(source, f"{host} cannot be reached ({error})") from error


def _no_weights(source: str, why: str) -> ResourceError:
    hint = f"give a local file: {source}@weights.safetensors, or a bundled model (`effxfer models`)"
    return ResourceError(f"no pretrained weights for {source}: {why}", hint)


def _is_head(name: str) -> bool:
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
