"""Which image formats are opened, and why a file is refused before it is decoded.

Only an explicit list of formats is tried: the other decoders of Pillow were the source of most of its advisories.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from effxfer.runtime.images.slow import is_map, why_slow
from effxfer.runtime.reading import TooLargeError, open_regular

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 64_000_000
MAX_BYTES = 256_000_000
BYTES_PER_PIXEL = 4
TEXT_TOO_LARGE = ("Decompressed data too large", "Too much memory used in text chunks")  # Pillow's words
WITHOUT_MAPS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
FORMATS = (*WITHOUT_MAPS, "PPM")
START = 4096
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


class ImageError(ValueError):
    """An image that cannot become pixels.

    Args:
        problem: What is wrong with it, in one line, without its path.
        hint: What would work; empty if there is nothing.
        code: `E300` unreadable file, `E301` not an image, `E302` truncated or damaged, `E304` pixel type without a
            defined range, `E306` format that needs a package, `E307` too many pixels or bytes.
    """

    def __init__(self, problem: str, hint: str = "", *, code: str) -> None:
        self.problem, self.hint, self.code = problem, hint, code
        super().__init__(f"{code} {problem}")


def byte_limit(max_pixels: int) -> int:
    """Give the most bytes that a file of an image of so many pixels may have."""
    return max(MAX_BYTES, BYTES_PER_PIXEL * max_pixels)


def unreadable(error: OSError) -> ImageError:
    """Say why an image file could not be opened or read."""
    if isinstance(error, TooLargeError):
        return ImageError(str(error.strerror), "make it smaller, or raise max_pixels of the data settings", code="E307")
    return ImageError(f"cannot be read: {error.strerror}", code="E300")


@contextmanager
def open_image(source: Path | bytes, max_pixels: int, *, to_decode: bool = False) -> "Iterator[Image.Image]":
    """Read an image's header; its pixels are decoded within the block, which reads no more of the file than it must.

    Args:
        source: A file, or a file's bytes.
        max_pixels: Refuse images with more pixels (width x height); at most 178,956,970, Pillow's own limit.
        to_decode: Refuse what would take very long to decode, too.

    Raises:
        ImageError: If it cannot be read, is of no known format, has a damaged header or too many pixels or bytes.
    """
    with _opened(source, byte_limit(max_pixels)) as stream:
        image = _header(stream, max_pixels)
        if to_decode and (why := why_slow(image, stream)):
            raise ImageError(why, "write it anew with another program", code="E307")
        yield image


def _opened(source: Path | bytes, limit: int) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        return open_regular(source, limit)
    except OSError as error:
        raise unreadable(error) from None


def _header(stream: BinaryIO, max_pixels: int) -> "Image.Image":
    from PIL import Image

    start = _start(stream)
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


def _start(stream: BinaryIO) -> bytes:
    try:
        start = stream.read(START) or b""  # None where nothing is there yet
    except OSError as error:
        raise unreadable(error) from None
    stream.seek(0)
    return start


def _formats(data: bytes) -> tuple[str, ...]:
    """Give the formats to try, with their plug-ins registered: with a list, `Image.open` registers only some."""
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

    if is_map(data):
        return ("PPM",)
    if data[4:8] != b"ftyp" or data[8:12] not in HEIC_BRANDS or b"avif" in data[8:64]:
        return WITHOUT_MAPS
    try:
        import pillow_heif
    except ImportError:
        raise ImageError("HEIC needs the package pillow-heif", "pip install 'effxfer[heic]'", code="E306") from None
    pillow_heif.register_heif_opener()
    return (*WITHOUT_MAPS, "HEIF")


def _too_large(found: str, max_pixels: int) -> ImageError:
    hint = "make it smaller, or raise max_pixels of the data settings"
    return ImageError(f"{found} is above the limit of {max_pixels / 1e6:.0f} MP", hint, code="E307")


def _not_an_image(data: bytes, error: Exception) -> ImageError:
    from PIL import UnidentifiedImageError

    if not data:
        return ImageError("not an image: the file is empty", "restore the file or remove it", code="E301")
    start = data[:16].decode("ascii", "replace").replace("\ufffd", "?")
    if isinstance(error, ValueError) and str(error).startswith(TEXT_TOO_LARGE):
        hint = "write it anew without its metadata"
        return ImageError("its text or colour profile is too large", hint, code="E307")
    if _is_known(data) or not isinstance(error, UnidentifiedImageError):
        return ImageError(f"truncated or damaged header (starts with {start!r})", "restore the file", code="E302")
    return ImageError(f"not an image (starts with {start!r})", f"known formats are {', '.join(FORMATS)}", code="E301")


def _is_known(data: bytes) -> bool:
    signatures = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
    return data.startswith(signatures) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")
