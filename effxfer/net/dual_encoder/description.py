"""What the configuration of a dual encoder's folder says, for both layouts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effxfer.errors import ModelFileError
from effxfer.runtime.images.preprocess import Preprocess

# OpenAI's, which open_clip's models keep unless their folder says otherwise.
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
LIMITS = {
    "vocabulary": 2**20, "width": 2**13, "layers": 256, "heads": 1024, "mlp": 2**16, "positions": 2**16,
    "size": 2048, "patch": 256, "embeddings": 2**13,
}  # fmt: skip
HINT = "get an intact copy of the folder"
# Of the towers in timm, by their names there.
PUBLISHED = {
    "base_patch32": {"embed_dim": 768, "depth": 12, "num_heads": 12, "patch_size": 32},
    "base_patch16": {"embed_dim": 768, "depth": 12, "num_heads": 12, "patch_size": 16},
    "large_patch14": {"embed_dim": 1024, "depth": 24, "num_heads": 16, "patch_size": 14},
    "huge_patch14": {"embed_dim": 1280, "depth": 32, "num_heads": 16, "patch_size": 14},
}
PUBLISHED_SIDE, MLP_RATIO, EPS = 224, 4, 1e-5


@dataclass(frozen=True, kw_only=True)
class ImageTower:
    """A vision transformer of CLIP.

    Attributes:
        source: Its name in timm, `timm:NAME`.
        args: Arguments of it.
        input: Its preprocessing.
    """

    source: str
    args: Mapping[str, Any]
    input: Preprocess


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a folder's configuration says.

    Attributes:
        file: The configuration.
        text: Arguments of `Encoder` before a row for padding is added to its vocabulary; None without a text tower.
        end: Id of the end of a text; None for the largest id of the tokenizer.
        image: The image tower; None without one.
        embeddings: Numbers of an embedding; 0 without projections.
        weights: Names that the file of weights may have.
    """

    file: Path
    text: Mapping[str, Any] | None
    end: int | None
    image: ImageTower | None
    embeddings: int
    weights: tuple[str, ...]


def whole_number(config: Mapping[str, Any], key: str, limit: str, file: Path, default: int | None = None) -> int:
    """Return a size of a configuration.

    Raises:
        ModelFileError: `E433`, if it is absent without a default, or no number from 1 to `LIMITS[limit]`.
    """
    value = config.get(key, default)
    if type(value) is not int or not 1 <= value <= LIMITS[limit]:
        text = f"{file}: {key} is {value!r:.60}" if key in config else f"{file} has no {key}"
        raise ModelFileError(text, f"1 to {LIMITS[limit]} works; {HINT}", code="E433")
    return value


def table_in(config: Mapping[str, Any], key: str, file: Path) -> Mapping[str, Any]:
    """Return an object within a configuration; an empty one if it is absent.

    Raises:
        ModelFileError: `E434`, if it is something else.
    """
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise ModelFileError(f"{file}: {key} is no object", HINT, code="E434")
    return value


def require_nothing_else(reasons: Mapping[str, Any], file: Path) -> None:
    """Refuse a network that is not built, by the first reason that holds.

    Raises:
        ModelFileError: `E433`.
    """
    for reason, holds in reasons.items():
        if holds:
            raise ModelFileError(f"{file}: {reason}", "take a CLIP whose towers are plain transformers", code="E433")


def require_division(width: int, heads: int, file: Path) -> None:
    """Refuse heads that do not divide the width.

    Raises:
        ModelFileError: `E433`.
    """
    if width % heads:
        raise ModelFileError(f"{file}: {heads} heads do not divide the width {width}", HINT, code="E433")


def image_tower(
    width: int, layers: int, heads: int, mlp: int, patch: int, input: Preprocess, *, quick: bool
) -> ImageTower:  # fmt: skip
    """Return a tower by its name in timm; `args` hold what differs from the published one of that name."""
    sizes = {"embed_dim": width, "depth": layers, "num_heads": heads, "patch_size": patch}
    name = next((name for name, published in PUBLISHED.items() if published == sizes), "base_patch32")
    args: dict[str, Any] = {key: value for key, value in sizes.items() if PUBLISHED[name][key] != value}
    if input.size != PUBLISHED_SIDE:
        args["img_size"] = input.size
    if mlp != MLP_RATIO * width:
        args["mlp_ratio"] = mlp / width
    return ImageTower(source=f"timm:vit_{name}_clip{'_quickgelu' * quick}_224", args=args, input=input)
