"""CLIP as open_clip stores it for the hub: `open_clip_config.json` and `open_clip_model.safetensors`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effxfer.errors import ModelFileError
from effxfer.net.dual_encoder.description import (
    CLIP_MEAN,
    CLIP_STD,
    EPS,
    HINT,
    MLP_RATIO,
    PUBLISHED_SIDE,
    Description,
    ImageTower,
    image_tower,
    require_division,
    require_nothing_else,
    table_in,
    whole_number,
)
from effxfer.net.dual_encoder.transformers_layout import read_preprocess

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
RESIZING = {"shortest": "center", "squash": "squash", "longest": "letterbox"}
# Sizes, and what changes nothing of the network in evaluation.
TEXT_SIZES = ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio")
IMAGE_SIZES = ("image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio")
IDLE = {
    "hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs", "output_tokens", "pad_id", "eos_id", "patch_dropout",
    "attn_pooler_queries", "attn_pooler_heads", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_proj_bias",
    "timm_drop", "timm_drop_path", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type",
}  # fmt: skip
# What a plain CLIP has; everything else is refused by name.
PLAIN = {"pool_type": ("argmax", "eos", "tok"), "proj_type": ("linear",), "pos_embed_type": ("learnable",)}


def describe_open_clip(folder: Path, config: Mapping[str, Any]) -> Description:
    """Read the configuration of a model of open_clip.

    Args:
        folder: Its folder.
        config: Content of `open_clip_config.json`.

    Raises:
        ModelFileError: `E433` if a size is absent, out of range or not built; `E434` if a part is no object.
    """
    file = folder / CONFIG
    model = table_in(config, "model_cfg", file)
    text, vision = table_in(model, "text_cfg", file), table_in(model, "vision_cfg", file)
    _require_plain(text, (*TEXT_SIZES,), file, "text_cfg")
    return Description(
        file=file,
        text=_text(text, file, quick=model.get("quick_gelu") is True),
        end=text["eos_id"] if text.get("pool_type") == "eos" and type(text.get("eos_id")) is int else None,
        image=_image(vision, table_in(config, "preprocess_cfg", file), file, quick=model.get("quick_gelu") is True),
        embeddings=whole_number(model, "embed_dim", "embeddings", file),
        weights=WEIGHTS,
    )


def _require_plain(config: Mapping[str, Any], sizes: tuple[str, ...], file: Path, part: str) -> None:
    reasons = {
        f"{part}.{key} = {value!r:.40} is not built": value not in PLAIN.get(key, (None, False))
        for key, value in config.items()
        if key not in IDLE and key not in sizes
    }
    require_nothing_else(reasons, file)


def _text(config: Mapping[str, Any], file: Path, *, quick: bool) -> dict[str, Any]:
    width = whole_number(config, "width", "width", file, 512)
    heads = whole_number(config, "heads", "heads", file, 8)
    require_division(width, heads, file)
    return {
        "vocabulary": whole_number(config, "vocab_size", "vocabulary", file, 49408), "width": width,
        "layers": whole_number(config, "layers", "layers", file, 12), "heads": heads,
        "mlp": _hidden_width(config, width, file),
        "positions": whole_number(config, "context_length", "positions", file, 77),
        "activation": "quick_gelu" if quick else "gelu", "eps": EPS,
    }  # fmt: skip


def _image(config: Mapping[str, Any], images: Mapping[str, Any], file: Path, *, quick: bool) -> ImageTower | None:
    """Return the image tower; None if timm or a ResNet makes it, which opens by its name in timm."""
    if config.get("timm_model_name") or isinstance(config.get("layers"), list):
        return None
    _require_plain(config, (*IMAGE_SIZES,), file, "vision_cfg")
    width, head = (
        whole_number(config, "width", "width", file, 768),
        whole_number(config, "head_width", "width", file, 64),
    )
    require_division(width, head, file)
    side = whole_number(config, "image_size", "size", file, PUBLISHED_SIDE)
    chosen = {
        "size": side, "crop": RESIZING.get(str(images.get("resize_mode", "shortest")), "center"),
        "mean": images.get("mean", CLIP_MEAN), "std": images.get("std", CLIP_STD),
        "interpolation": images.get("interpolation", "bicubic"),
    }  # fmt: skip
    return image_tower(
        width, whole_number(config, "layers", "layers", file, 12), width // head, _hidden_width(config, width, file),
        whole_number(config, "patch_size", "patch", file, 16), read_preprocess(chosen, file), quick=quick,
    )  # fmt: skip


def _hidden_width(config: Mapping[str, Any], width: int, file: Path) -> int:
    """Return the hidden width of MLPs."""
    ratio = config.get("mlp_ratio", MLP_RATIO)
    if not isinstance(ratio, int | float) or isinstance(ratio, bool) or not 0 < ratio <= 16:
        raise ModelFileError(f"{file}: mlp_ratio is {ratio!r:.60}", HINT, code="E433")
    return int(width * ratio)
