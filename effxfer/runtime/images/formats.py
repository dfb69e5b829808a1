"""Open images of known formats, and refuse a file before it is decoded.

Only an explicit list of formats is tried: Pillow's other decoders were the source of most of its security advisories.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from effxfer.runtime.images.slow import is_netpbm, slow_reason
from effxfer.runtime.reading import TooLargeError, open_regular

if TYPE_CHECKING:
    from PIL import Image

# Chosen: above the 48 to 50 MP of phones' cameras; decoded to RGB it takes 192 MB in each worker.
MAX_PIXELS = 64_000_000
# 4 bytes for each of `MAX_PIXELS`: no file of a permitted image is larger, but for uncompressed ones of 16 bits.
MAX_BYTES = 256_000_000
BYTES_PER_PIXEL = 4
TEXT_TOO_LARGE = ("Decompressed data too large", "Too much memory used in text chunks")  # Pillow's words
WITHOUT_MAPS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
FORMATS = (*WITHOUT_MAPS, "PPM")
# A portable map's header ends within it, comments included; other signatures need 64 bytes.
START = 4096
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


class ImageError(ValueError):
    """An image that cannot be decoded.

    Args:
        problem: What is wrong with it, in one line, without its path.
        hint: What would work; empty if nothing would.
        code: `E300` unreadable file, `E301` not an image, `E302` truncated or damaged, `E304` pixel type without a
            defined range, `E306` format that needs a package, `E307` too many pixels or bytes.
    """

    def __init__(self, problem: str, hint: str = "", *, code: str) -> None:
        self.problem, self.hint, self.code = problem, hint, code
        super().__init__(f"{code} {problem}")


def byte_limit(max_pixels: int) -> int:
    """Return the most bytes that an image file may have, for a limit of pixels."""
    return max(MAX_BYTES, BYTES_PER_PIXEL * max_pixels)


def unreadable_error(error: OSError) -> ImageError:
    """Convert a failure to open or read an image file into an `ImageError`."""
    if isinstance(error, TooLargeError):
        return ImageError(str(error.strerror), "make it smaller, or raise max_pixels of the data settings", code="E307")
    return ImageError(f"cannot be read: {error.strerror}", code="E300")


@contextmanager
def open_image(source: Path | bytes, max_pixels: int, *, to_decode: bool = False) -> "Iterator[Image.Image]":
    """Read an image's header; the pixels are read only if the block decodes them.

    Args:
        source: A file, or a file's bytes.
        max_pixels: Refuse images with more pixels (width x height); at most 178,956,970, Pillow's own limit.
        to_decode: Also refuse images that would take very long to decode.

    Raises:
        ImageError: If it cannot be read, has no known format, a damaged header, or too many pixels or bytes.
    """
    with _open_stream(source, byte_limit(max_pixels)) as stream:
        image = _read_header(stream, max_pixels)
        if to_decode and (reason := slow_reason(image, stream)):
            raise ImageError(reason, "save it again with another program", code="E307")
        yield image


def _open_stream(source: Path | bytes, limit: int) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        return open_regular(source, limit)
    except OSError as error:
        raise unreadable_error(error) from None


def _read_header(stream: BinaryIO, max_pixels: int) -> "Image.Image":
    from PIL import Image

    start = _read_start(stream)
    formats = _formats(start)
    try:
        image: Image.Image = Image.open(stream, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(str(error), max_pixels) from None
    except Exception as error:  # plug-ins raise more than UnidentifiedImageError on broken headers
        raise _not_an_image(start, error) from None
    if image.width * image.height > max_pixels:
        raise _too_large(f"{image.width * image.height / 1e6:.0f} MP", max_pixels)
    return image


def _read_start(stream: BinaryIO) -> bytes:
    try:
        start = stream.read(START) or b""  # None if a non-blocking source has no data yet
    except OSError as error:
        raise unreadable_error(error) from None
    stream.seek(0)
    return start


def _formats(data: bytes) -> tuple[str, ...]:
    """Return the formats to try, after registering their plug-ins: given a list, `Image.open` registers only some."""
    from PIL import (  # noqa: F401
        AvifImagePlugin,
        BmpImagePlugin,
        GifImagePlugin,
        JpegImagePlugin,
        MpoImagePlugin,
        PngImagePlugin,
        PpmImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    if is_netpbm(data):
        return ("PPM",)
    # AVIF is written in the same container, and may name HEIF's brands beside its own.
    if data[4:8] != b"ftyp" or data[8:12] not in HEIC_BRANDS or b"avif" in data[8:64]:
        return WITHOUT_MAPS
    try:
        import pillow_heif
    except ImportError:
        raise ImageError("HEIC needs the package pillow-heif", "pip install 'effxfer[heic]'", code="E306") from None
    pillow_heif.register_heif_opener()
    return (*WITHOUT_MAPS, "HEIF")


def _too_large(size: str, max_pixels: int) -> ImageError:
    hint = "make it smaller, or raise max_pixels of the data settings"
    return ImageError(f"{size} is above the limit of {max_pixels / 1e6:.0f} MP", hint, code="E307")


def _not_an_image(data: bytes, error: Exception) -> ImageError:
    from PIL import UnidentifiedImageError

    if not data:
        return ImageError("not an image: the file is empty", "restore the file or remove it", code="E301")
    start = data[:16].decode("ascii", "replace").replace("\ufffd", "?")
    if isinstance(error, ValueError) and str(error).startswith(TEXT_TOO_LARGE):
        hint = "save it again without its metadata"
        return ImageError("its text or colour profile is too large", hint, code="E307")
    if _has_known_signature(data) or not isinstance(error, UnidentifiedImageError):
        return ImageError(f"truncated or damaged header (starts with {start!r})", "restore the file", code="E302")
    return ImageError(f"not an image (starts with {start!r})", f"known formats are {', '.join(FORMATS)}", code="E301")


def _has_known_signature(data: bytes) -> bool:
    signatures = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
    return data.startswith(signatures) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
