"""What the source of a backbone names: a network of a library, a model directory, or a bundled model."""

from pathlib import Path
from typing import TYPE_CHECKING

from effxfer.artifact import MANIFEST, Artifact
from effxfer.errors import ModelFileError, did_you_mean
from effxfer.net.settings import BackboneSettings

if TYPE_CHECKING:
    from effxfer.net.net import Net


def bundled_folder(kind: str) -> Path:
    """Return the folder of the shipped `models` or `pipelines`: in the wheel, or in the source tree."""
    inside = Path(__file__).parent / "_bundled" / kind
    return inside if inside.is_dir() else Path(__file__).parents[1] / kind


def bundled_models() -> list[str]:
    """Return the names of the shipped models."""
    return sorted(file.parent.name for file in bundled_folder("models").glob(f"*/{MANIFEST}"))


def find(source: str) -> Artifact | None:
    """Open a model directory or a bundled model; None if `source` names a network of a library.

    Raises:
        ModelFileError: If it looks like a model directory but is none.
    """
    if source in bundled_models():
        return Artifact.load(bundled_folder("models") / source)
    if (Path(source) / MANIFEST).is_file():
        return Artifact.load(Path(source))
    # After "@" stands a path, whose colon (C:) says nothing.
    if ":" in source.partition("@")[0]:
        return None
    hint = f"write timm:NAME, a model directory, or a bundled model: {', '.join(bundled_models())}"
    raise ModelFileError(f"no model {source!r}{did_you_mean(source, bundled_models())}", hint)


def open_model(settings: BackboneSettings) -> "tuple[Net, tuple[str, ...]]":
    """Open the backbone of the settings: a network of a library, or an artifact.

    Returns:
        The network and notes on its weights.
    """
    from effxfer.net.backbones.pretrained import open_backbone

    artifact = find(settings.source)
    if artifact is None:
        return open_backbone(settings)
    net = artifact.net()
    net.input = settings.adjust(net.input)
    return net, (f"backbone is {artifact.path.name}, made by effxfer {artifact.manifest.stage}",)


def identity(settings: BackboneSettings) -> object:
    """Return JSON values that determine the network of `open_model`, for a key."""
    artifact = find(settings.source)
    return settings.identity() if artifact is None else [artifact.manifest.key, {**settings.plain(), "source": ""}]
