"""Small files that would take minutes to decode, known by a look at their bytes."""

import re
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from PIL import Image

MAX_SCANS = 100
PIECE = 1 << 20
SCAN_BYTES = 5
SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")  # with its length and number of components
GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
SIDES = rb"(?=\s)" + GAP + rb"\d{1,10}" + GAP + rb"\d{1,10}"
MAP = re.compile(rb"P(?:[14]" + SIDES + rb"|[2356]" + SIDES + GAP + rb"\d{1,5})\s")


def why_slow(image: "Image.Image", stream: BinaryIO) -> str:
    """Say why an image would take very long to decode; empty if it would not.

    * Each scan of a JPEG goes over the whole image, and takes a few bytes; encoders write some twenty at most.
    * The pixels of a portable map in text are read one by one.

    Args:
        image: Opened, not decoded yet.
        stream: What it was opened from; left where it was.
    """
    if image.format in ("JPEG", "MPO") and (count := scans(stream)) > MAX_SCANS:
        return f"{count} scans are above the limit of {MAX_SCANS}"
    in_text = any(tile[0] == "ppm_plain" for tile in getattr(image, "tile", ()))
    pixels = image.width * image.height / 1e6
    return f"{pixels:.0f} MP of text are above the limit of 1 MP" if in_text and pixels > 1 else ""


def scans(stream: BinaryIO) -> int:
    """Count the scans of a JPEG."""
    count, tail, before = 0, b"", stream.tell()
    stream.seek(0)
    while piece := stream.read(PIECE):
        count += len(SCAN.findall(tail + piece))
        tail = piece[1 - SCAN_BYTES :]
    stream.seek(before)
    return count


def is_map(start: bytes) -> bool:
    """Say whether a file begins as a portable bitmap, greymap or pixmap does, with a header that ends soon.

    Pillow reads the comments of such a header byte by byte, however long they are.
    """
    return MAP.match(start) is not None
