"""Open pretrained backbones: build the architecture, load or download its weights, check its output."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from effxfer.errors import EffxferError, ResourceError, SettingsError
from effxfer.net.backbones.probe import build_untrained, examine
from effxfer.net.backbones.weights import classifier_in, load_classifier, load_weights
from effxfer.net.net import Net
from effxfer.net.settings import BackboneSettings


def open_backbone(settings: BackboneSettings) -> tuple[Net, tuple[str, ...]]:
    """Build a network with a pretrained body and no head.

    Returns:
        The network, and notes on tensors of the weights file that were not loaded.

    Raises:
        SettingsError: If no such network exists, or it does not accept images.
        ModelFileError: If the weights are unreadable or do not fit.
        ResourceError: If weights must be downloaded and the host cannot be reached.
    """
    if settings.folder() is not None:
        from effxfer.net.backbones.hugging_face import open_folder

        return open_folder(settings)
    if settings.is_new_encoder:
        hint = "`effxfer pretrain` trains one on texts; or name hf:FOLDER, or a bundled model of texts"
        raise SettingsError(f"{settings.source} is untrained, and has no tokenizer yet", hint)
    source, file = settings.source.partition("@")[0], settings.weights_file()
    net, notes = build_untrained(settings)
    if settings.pretrained and file is not None:
        notes += load_weights(net.body, file, settings.part())
    elif settings.pretrained:
        notes += _download(net.body, source, net.backbone["args"])
    return net, notes + (examine(net, settings.source) if settings.pretrained else ())


def source_classifier(settings: BackboneSettings, width: int) -> nn.Linear | None:
    """Load the linear classifier that a backbone was pretrained with, if its weights hold one.

    Args:
        settings: The backbone.
        width: Number of its features.

    Returns:
        Layer from features to logits of the source's classes; None if there is no such layer, or more than one.

    Raises:
        ModelFileError: If the weights are unreadable.
    """
    source, file = settings.source.partition("@")[0], settings.weights_file()
    library, _, name = source.partition(":")
    if not settings.pretrained or (file is None and library != "timm"):
        return None
    if file is None:
        return classifier_in(_classifier_timm(name, settings.args), width)
    return load_classifier(build_untrained(settings)[0].body, file, settings.part(), width)


def _download(body: nn.Module, source: str, args: Mapping[str, Any]) -> tuple[str, ...]:
    library, _, name = source.partition(":")
    if library not in ("timm", "torchvision"):
        return (f"{source} has the weights that its factory set",)
    host = "huggingface.co" if library == "timm" else "download.pytorch.org"
    # A file that is there needs no network; else three seconds tell what the libraries would only find out later.
    if not (_is_cached(body) if library == "timm" else _is_in_hub(name)):
        _preflight(host, source)
    try:
        state = _fetch_timm(name, args) if library == "timm" else _fetch_torchvision(name)
    except EffxferError:
        raise
    except Exception as error:  # huggingface_hub, httpx, urllib and torch.hub each raise their own types
        raise _unavailable_error(source, f"{type(error).__name__} from {host}") from error
    # The weights of torchvision come with their classifier, which the body lacks.
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
    # timm looks for safetensors first; older repositories have a pickle only.
    files = ("model.safetensors", "pytorch_model.bin")
    return bool(hub) and any(isinstance(try_to_load_from_cache(hub, file), str) for file in files)


def _is_in_hub(name: str) -> bool:
    import torchvision

    file = Path(torchvision.models.get_model_weights(name).DEFAULT.url).name
    return Path(torch.hub.get_dir(), "checkpoints", file).is_file()


def _preflight(host: str, source: str) -> None:
    """Check within three seconds that a host can be reached; with a configured proxy this is not checked."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        raise _unavailable_error(source, "HF_HUB_OFFLINE is set")
    # Behind a proxy the host may be reached though a direct connection is not.
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return
    try:
        # 3 s, chosen: a handshake with the other side of the world takes about a tenth of it.
        socket.create_connection((host, 443), timeout=3).close()
    except OSError as error:
        raise _unavailable_error(source, f"{host} cannot be reached ({error})") from error


def _unavailable_error(source: str, reason: str) -> ResourceError:
    hint = f"give a local file: {source}@weights.safetensors, or a bundled model (`effxfer models`)"
    return ResourceError(f"no pretrained weights for {source}: {reason}", hint)
