"""Settings of the pretrained network; no heavy imports, so that they are checked before torch is loaded."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from effxfer.errors import ModelFileError, SettingsError
from effxfer.files import sha256
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.inputs import Input
from effxfer.runtime.vectors.vectors import Vectors
from effxfer.settings import Settings

HUGGING_FACE, DUAL_ENCODER = "hf:", "clip:"
FOLDERS = (HUGGING_FACE, DUAL_ENCODER)
ENCODER = "effxfer.net.text.encoder:Encoder"
MOST_FILES = 200  # of a folder of an encoder: it has about ten


class BackboneSettings(Settings):
    """Backbone, weights and preprocessing.

    Attributes:
        source: `timm:NAME`, `torchvision:NAME` or `package.module:factory`, each with `@FILE` for local weights
            (`.safetensors`, `.pth`), or `@FILE#PART` for one of several networks in it (`#teacher`, `#state_dict.ema`);
            `hf:FOLDER` for a text encoder with `config.json`, weights and tokenizer; `clip:FOLDER` for a dual encoder
            of images and texts, as transformers or open_clip store it; a model directory; or the name of a bundled
            model. `effxfer.net.text.encoder:Encoder` is a new text encoder, whose tokenizer is trained on the texts of
            the data set.
        args: Keyword arguments of the network, such as `pad_type = "same"`.
        pretrained: Load pretrained weights. False uses random weights from a fixed seed.
        size: Side of the input in pixels, or the most tokens of a text; None is that of pretraining. The width of
            vectors is fixed: it is the argument `inputs` of `effxfer.net.mlp:mlp`, taken from the data if it is absent.
        crop_pct: Fraction of the resized image's side that the crop keeps, in (0, 1]; None is the backbone's, or 1 if
            `size` is set.
        crop: Cropping: `center`, `squash` or `letterbox`; None is the backbone's.
        interpolation: Interpolation of resizing; None is the backbone's.
        mean: Mean of each channel for normalisation; None is the backbone's.
        std: Standard deviation of each channel for normalisation; None is the backbone's.
        standardize: Of vectors: subtract the mean of each column of the training split, and divide by its deviation.
    """

    source: str
    args: dict[str, Any] = Field(default_factory=dict)
    pretrained: bool = True
    # Chosen: beyond the side of any published classifier.
    size: int | None = Field(default=None, ge=8, le=2048)
    crop_pct: float | None = Field(default=None, gt=0, le=1)
    crop: Literal["center", "squash", "letterbox"] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    # Left out at its default: keys of networks of images and texts stay what they are.
    standardize: bool = Field(default=True, exclude_if=bool)

    def adjust(self, native: Input) -> Input:
        """Return the backbone's input with these settings applied.

        Raises:
            SettingsError: If a setting of images is given for a backbone that takes something else.
        """
        if not isinstance(native, Vectors) and not self.standardize:
            raise SettingsError(f"backbone.standardize: the backbone takes {native.unit}", "leave it out")
        if not isinstance(native, Preprocess):
            return self._resize(native)
        chosen = {k: v for k in ("size", "crop_pct", "crop", "interpolation", "mean", "std") if (v := getattr(self, k))}
        if self.size and not self.crop_pct:
            # Who sets a side means what the network sees: resizing to more and cropping is the habit of one resolution.
            chosen["crop_pct"] = 1.0
        return Preprocess.from_json({**native.to_json(), **chosen})

    def _resize(self, native: Input) -> Input:
        of_images = [name for name in ("crop_pct", "crop", "interpolation", "mean", "std") if getattr(self, name)]
        if of_images:
            raise SettingsError(f"backbone.{of_images[0]}: the backbone takes {native.unit}", "leave it out")
        if not isinstance(native, Vectors):
            return native.with_size(self.size) if self.size else native
        if self.size not in (None, native.size):
            text = f"backbone.size: the backbone takes vectors of {native.size} numbers"
            raise SettingsError(text, "leave it out; backbone.args.inputs sets the width")
        return replace(native, standardize=self.standardize and not native.mean)

    def folder(self) -> Path | None:
        """The folder of a text encoder after `hf:`, or of a dual encoder after `clip:`; or None."""
        named = self.source.startswith(FOLDERS)
        return Path(self.source.partition(":")[2]).expanduser() if named else None

    @property
    def is_text_folder(self) -> bool:
        """Whether it is the folder of a text encoder, `hf:FOLDER`."""
        return self.source.startswith(HUGGING_FACE)

    @property
    def is_new_encoder(self) -> bool:
        """Whether it is a text encoder without weights and without a tokenizer."""
        return self.source == ENCODER

    def weights_file(self) -> Path | None:
        """The local weights file after `@`, or None."""
        _, mark, file = self.source.partition("@")
        return _split(file)[0] if mark and self.folder() is None else None

    def part(self) -> str:
        """The key of the network within the weights file, after `#`; empty for the usual keys."""
        return _split(self.source.partition("@")[2])[1]

    def identity(self) -> dict[str, Any]:
        """These settings with a local file replaced by its digest, for cache keys.

        Raises:
            ModelFileError: If the weights file does not exist.
        """
        file, part, folder = self.weights_file(), self.part(), self.folder()
        plain = self.plain()
        if folder is not None:
            return {**plain, "source": f"{self.source.partition(':')[0]}:", "files": _digests(folder)}
        if file is None:
            return plain
        if not file.is_file():
            raise ModelFileError(f"no weights file {file}", "give the path of a .safetensors or .pth file after @")
        weights = f"{sha256(file)}#{part}" if part else sha256(file)
        return {**plain, "source": self.source.partition("@")[0], "weights": weights}


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder and of its folders, by its name there.

    Raises:
        ModelFileError: If there is no folder, or one with far more files than an encoder has.
    """
    if not folder.is_dir():
        hint = "write hf:FOLDER or clip:FOLDER, with a configuration, weights and a tokenizer"
        raise ModelFileError(f"no folder {folder}", hint, code="E434")
    files = [file for pattern in ("*", "*/*") for file in islice(folder.glob(pattern), MOST_FILES) if file.is_file()]
    if len(files) >= MOST_FILES:
        raise ModelFileError(f"{folder} has {MOST_FILES} files or more", "name the folder of one encoder")
    return {file.relative_to(folder).as_posix(): sha256(file) for file in sorted(files)}


def _split(file: str) -> tuple[Path, str]:
    """Split `FILE#PART`; an existing file with `#` in its name is not split."""
    path, _, part = file.rpartition("#")
    unsplit = Path(file).expanduser()
    return (Path(path).expanduser(), part) if path and not unsplit.is_file() else (unsplit, "")
