"""CLIP as `save_pretrained` of transformers stores it: `config.json` of `CLIPModel` or of one of its towers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effxfer.errors import ModelFileError
from effxfer.net.dual_encoder.description import (
    CLIP_MEAN,
    CLIP_STD,
    EPS,
    Description,
    ImageTower,
    image_tower,
    require_division,
    require_nothing_else,
    table_in,
    whole_number,
)
from effxfer.net.text.encoder import ACTIVATIONS
from effxfer.net.text.folder_files import read_optional
from effxfer.runtime.images.preprocess import Preprocess

CONFIG = "config.json"
IMAGES = "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TEXT, VISION, BOTH = "clip_text_model", "clip_vision_model", "clip"
KINDS = (BOTH, TEXT, VISION)
# What every file said before transformers read it, whatever the tokenizer: the largest id of a text is its end.
LEGACY_END = 2
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers
# transformers leaves out what is equal to its defaults.
TEXT_DEFAULTS = {
    "vocab_size": 49408, "hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8,
    "intermediate_size": 2048, "max_position_embeddings": 77,
}  # fmt: skip
VISION_DEFAULTS = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "image_size": 224, "patch_size": 32,
}  # fmt: skip
LIMIT_OF = {
    "vocab_size": "vocabulary", "hidden_size": "width", "num_hidden_layers": "layers", "num_attention_heads": "heads",
    "intermediate_size": "mlp", "max_position_embeddings": "positions", "image_size": "size", "patch_size": "patch",
}  # fmt: skip


def describe_transformers(folder: Path, config: Mapping[str, Any]) -> Description:
    """Read the configuration of a model of transformers.

    Args:
        folder: Its folder.
        config: Content of `config.json`, whose `model_type` is one of `KINDS`.

    Raises:
        ModelFileError: `E433` if a size is absent, out of range or not built; `E434` if a file is damaged.
    """
    file, kind = folder / CONFIG, config["model_type"]
    require_nothing_else({"its network is Python code beside the weights": config.get("auto_map")}, file)
    text = table_in(config, "text_config", file) if kind == BOTH else config
    vision = table_in(config, "vision_config", file) if kind == BOTH else config
    end = text.get("eos_token_id", LEGACY_END)
    return Description(
        file=file,
        text=_text(text, file) if kind != VISION else None,
        end=end if type(end) is int and end != LEGACY_END else None,
        image=_image(vision, folder, file) if kind != TEXT else None,
        embeddings=whole_number(config, "projection_dim", "embeddings", file, 512),
        weights=WEIGHTS,
    )


def _sizes(config: Mapping[str, Any], defaults: Mapping[str, int], file: Path) -> dict[str, int]:
    sizes = {key: whole_number(config, key, LIMIT_OF[key], file, default) for key, default in defaults.items()}
    require_division(sizes["hidden_size"], sizes["num_attention_heads"], file)
    return sizes


def _text(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    sizes = _sizes(config, TEXT_DEFAULTS, file)
    eps = config.get("layer_norm_eps", EPS)
    reasons = {
        "its weights are quantized": config.get("quantization_config"),
        f"norms of texts with {eps!r:.20} are not built": not isinstance(eps, float) or not 0 < eps < 1,
    }
    require_nothing_else(reasons, file)
    return {
        "vocabulary": sizes["vocab_size"], "width": sizes["hidden_size"], "layers": sizes["num_hidden_layers"],
        "heads": sizes["num_attention_heads"], "mlp": sizes["intermediate_size"],
        "positions": sizes["max_position_embeddings"], "activation": _activation(config, file), "eps": eps,
    }  # fmt: skip


def _image(config: Mapping[str, Any], folder: Path, file: Path) -> ImageTower:
    sizes, activation = _sizes(config, VISION_DEFAULTS, file), _activation(config, file)
    eps, channels = config.get("layer_norm_eps", EPS), config.get("num_channels", 3)
    reasons = {
        f"an image tower with {activation} is not built": activation not in ("gelu", "quick_gelu"),
        f"norms of images with {eps!r:.20} are not built": eps != EPS,
        f"images of {channels!r:.20} channels are not built": channels != 3,
    }
    require_nothing_else(reasons, file)
    return image_tower(
        sizes["hidden_size"], sizes["num_hidden_layers"], sizes["num_attention_heads"], sizes["intermediate_size"],
        sizes["patch_size"], _preprocess(folder, sizes["image_size"]), quick=activation == "quick_gelu",
    )  # fmt: skip


def _activation(config: Mapping[str, Any], file: Path) -> str:
    name = config.get("hidden_act", "quick_gelu")
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ModelFileError(
            f"{file}: no activation {name!r:.60}", f"it is one of {', '.join(ACTIVATIONS)}", code="E433"
        )
    return name


def _preprocess(folder: Path, side: int) -> Preprocess:
    config = read_optional(folder / IMAGES)
    size = config.get("size")
    squashed = isinstance(size, dict) and "shortest_edge" not in size
    chosen = {
        "size": side, "crop": "squash" if squashed else "center", "mean": config.get("image_mean", CLIP_MEAN),
        "std": config.get("image_std", CLIP_STD), "interpolation": RESAMPLING.get(config.get("resample", 3), "bicubic"),
    }  # fmt: skip
    return read_preprocess(chosen, folder / IMAGES)


def read_preprocess(chosen: Mapping[str, Any], file: Path) -> Preprocess:
    """Return a preprocessing of values that a file states.

    Raises:
        ModelFileError: `E433`, if it is none.
    """
    try:
        lists = {key: list(value) if isinstance(value, tuple) else value for key, value in chosen.items()}
        return Preprocess.from_json({**Preprocess().to_json(), **lists})
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{file}: {error}", "get an intact copy of the folder", code="E433") from None
