"""Convert an image file into the network's input, with pillow and numpy only.

Training, calibration, parity checks and deployment share these functions, so they get the same pixels.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.images.formats import MAX_PIXELS, ImageError, open_image
from effxfer.runtime.model_file import strict

if TYPE_CHECKING:
    from PIL import Image

__all__ = [
    "ImageError",
    "ImageFacts",
    "Preprocess",
    "decode",
    "decode_with_facts",
    "filter_of",
    "normalize",
    "read_size",
]
# White: what most programs show behind a transparent image.
BACKGROUND = (255, 255, 255)
MULTI_FRAME = ("GIF", "WEBP", "TIFF", "MPO", "PNG", "AVIF")


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Conversion of an image into the network's input; stored in every artifact and ONNX file.

    Attributes:
        size: Side of the square input in pixels.
        crop_pct: Fraction of the resized side that the centre crop keeps, in (0, 1].
        crop: Treatment of images that are not square: `center` resizes the shorter side and crops the longer one;
            `squash` resizes both sides to the square's; `letterbox` resizes the longer side and pads with the mean
            colour. timm's `crop_mode` calls the last one `border`.
        interpolation: `nearest`, `bilinear`, `bicubic` or `lanczos`, with antialiasing.
        mean: Per channel, subtracted after scaling pixels to [0, 1].
        std: Per channel, the divisor after that; above 0.
    """

    kind: ClassVar[str] = "image"
    name: ClassVar[str] = "images"
    unit: ClassVar[str] = "images"
    free: ClassVar[Mapping[int, str]] = MappingProxyType({0: "batch"})

    size: int = 224
    crop_pct: float = 1.0
    crop: str = "center"
    interpolation: str = "bicubic"
    # ImageNet's, as timm's IMAGENET_DEFAULT_MEAN and _STD.
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def with_size(self, size: int) -> "Preprocess":
        """Return the same preprocessing for images of another side."""
        return replace(self, size=size)

    def feed(self, rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn resized images, uint8 `(B, S, S, 3)`, into the network's input; see `normalize`."""
        return normalize(rows, self)

    def example(self, batch: int = 2, seed: int | None = None) -> NDArray[np.float32]:
        """Return an input `(batch, 3, S, S)`: zeros, or with `seed` numbers in [0, 1)."""
        shape = (batch, 3, self.size, self.size)
        return np.zeros(shape, np.float32) if seed is None else np.random.default_rng(seed).random(shape, np.float32)

    def real(self, x: Any) -> None:
        """Return None: an image has no padding."""

    def files(self) -> dict[str, bytes]:
        """Return nothing: no file lies beside."""
        return {}

    def padding_colour(self) -> tuple[int, int, int]:
        """Return the colour of padding, in [0, 255]: the mean, which normalization maps to (almost) zero."""
        red, green, blue = (round(255 * value) for value in self.mean)
        return red, green, blue

    def decode_key(self) -> dict[str, Any]:
        """Return the settings that resized images depend on; mean and deviation are subtracted afterwards."""
        view = {name: value for name, value in self.to_json().items() if name not in ("mean", "std")}
        return {**view, "border": self.padding_colour()} if self.crop == "letterbox" else view

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values; `crop` only if it is not `center`, so that older keys and files stay valid."""
        plain = {**asdict(self), "mean": list(self.mean), "std": list(self.std)}
        return {name: value for name, value in plain.items() if (name, value) != ("crop", "center")}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Preprocess":
        """Read the values of `to_json`.

        Raises:
            ValueError: If a field is unknown, missing or out of its range.
        """
        return cls(**strict.preprocess(raw))


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """Properties of an image file before its conversion to 8-bit RGB.

    Attributes:
        format: Pillow's name of the file format, e.g. `JPEG`.
        mode: Pillow's name of the stored pixel type, e.g. `RGB`, `CMYK`, `I;16`.
        width: Pixels, after rotation.
        height: Pixels, after rotation.
        bits: Bits per channel as stored.
        animated: The file has several frames; the first one is used.
        rotated: An EXIF orientation was applied.
        alpha: Transparency was composited on white.
    """

    format: str
    mode: str
    width: int
    height: int
    bits: int = 8
    animated: bool = False
    rotated: bool = False
    alpha: bool = False


def decode(source: Path | bytes, *, max_pixels: int = MAX_PIXELS) -> "Image.Image":
    """Read an image as upright 8-bit RGB.

    EXIF orientation is applied, 16 bits are scaled to 8, transparency is composited on white, CMYK, palette, grey and
    1-bit images are converted, and only the first frame of an animation is read.

    Args:
        source: A file, or a file's bytes.
        max_pixels: Refuse images with more pixels (width x height), before decoding them; at most 178,956,970.

    Raises:
        ImageError: If it has no known format, is damaged or too large, or its pixels have no defined range.
    """
    return decode_with_facts(source, max_pixels=max_pixels)[0]


def decode_with_facts(source: Path | bytes, *, max_pixels: int = MAX_PIXELS) -> "tuple[Image.Image, ImageFacts]":
    """Read an image like `decode`, and also return its properties before the conversion.

    Args:
        source: A file, or a file's bytes.
        max_pixels: Refuse images with more pixels, before decoding them; at most 178,956,970.

    Raises:
        ImageError: If `decode` would raise it.
    """
    with open_image(source, max_pixels, to_decode=True) as image:
        return _convert(image)


def read_size(source: Path | bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return the stored width and height, reading only the header.

    Args:
        source: A file, or a file's bytes.
        max_pixels: Refuse images with more pixels; at most 178,956,970.

    Raises:
        ImageError: If the header is unusable; damage to the pixel data goes unnoticed.
    """
    with open_image(source, max_pixels) as image:
        return image.size


def _convert(image: "Image.Image") -> "tuple[Image.Image, ImageFacts]":
    mode, kind = image.mode, image.format or ""
    try:
        animated = kind in MULTI_FRAME and bool(getattr(image, "is_animated", False))
        bits = _bits(image)
        image.load()
        upright = _rotate_upright(image)
        rgb = _to_rgb(upright)
    except ImageError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError ...
        raise ImageError(
            f"truncated or damaged {kind}: {error}", "restore the file or remove it", code="E302"
        ) from None
    facts = ImageFacts(
        format=kind,
        mode=mode,
        width=rgb.width,
        height=rgb.height,
        bits=bits,
        animated=animated,
        rotated=upright is not image,
        alpha=_has_alpha(image),
    )
    return rgb, facts


def normalize(pixels: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.float32]:
    """Scale pixels to [0, 1], subtract the mean and divide by the standard deviation, per channel.

    Args:
        pixels: uint8 `(N, S, S, 3)`.
        preprocess: `mean` and `std` are used.

    Returns:
        float32 `(N, 3, S, S)`, contiguous, equal to torchvision's `ToTensor` and `Normalize`.
    """
    scaled = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)
    # float32 throughout and in this order, as torchvision: another would give other last bits.
    scaled /= np.float32(255)
    scaled -= np.asarray(preprocess.mean, np.float32)[:, None, None]
    scaled /= np.asarray(preprocess.std, np.float32)[:, None, None]
    return scaled


def filter_of(interpolation: str) -> "Image.Resampling":
    """Return Pillow's antialiasing filter of a name such as `bicubic`."""
    from PIL import Image

    try:
        return Image.Resampling[interpolation.upper()]
    except KeyError:
        choices = ", ".join(sorted(r.name.lower() for r in Image.Resampling))
        raise ImageError(f"unknown interpolation {interpolation!r}", f"one of {choices}", code="E204") from None


def _bits(image: "Image.Image") -> int:
    stored = [tile[3] for tile in getattr(image, "tile", ())]
    deep = any(";16" in str(args) or (image.format == "PPM" and _largest_sample(args) > 255) for args in stored)
    return 16 if deep or ";16" in image.mode or image.mode == "I" else 1 if image.mode == "1" else 8


def _largest_sample(args: object) -> int:
    """Return the largest sample value that a PPM header states; 0 if its decoder needs none."""
    return args[1] if isinstance(args, tuple) and isinstance(args[1], int) else 0


def _rotate_upright(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # broken EXIF blocks raise anything; the pixels are fine
        return image
    turns = Image.Transpose
    turn = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }.get(orientation)
    return image if turn is None else image.transpose(turn)


def _has_alpha(image: "Image.Image") -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _to_rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    # A PNG of type RGB may name one colour that is transparent.
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in {"F", "LAB"}:
        raise ImageError(f"pixels of type {image.mode} have no defined range", "convert it to 8 bit", code="E304")
    if image.mode.startswith("I"):
        return _from_16_bit(image).convert("RGB")
    if not _has_alpha(image):
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, (*BACKGROUND, 255)), layer).convert("RGB")


def _from_16_bit(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ImageError("32-bit pixels have no defined range", "convert it to 8 or 16 bit", code="E304")
    # 65,535 = 255 x 257: rounded to the nearest, and black and white stay what they are.
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
