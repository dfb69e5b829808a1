"""Detect small files that would take minutes to decode, by a scan of their bytes."""

import re
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from PIL import Image

# Five times what encoders write; a JPEG of 20 MB may hold a million, each of which costs a pass over the image.
MAX_SCANS = 100
# 1 MB: chosen.
PIECE = 1 << 20
# What `SCAN` matches: so many less one are kept from a piece, so that none is missed or counted twice.
SCAN_BYTES = 5
SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")  # with its length and number of components
GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
SIDES = rb"(?=\s)" + GAP + rb"\d{1,10}" + GAP + rb"\d{1,10}"
NETPBM = re.compile(rb"P(?:[14]" + SIDES + rb"|[2356]" + SIDES + GAP + rb"\d{1,5})\s")


def slow_reason(image: "Image.Image", stream: BinaryIO) -> str:
    """Return why an image would take very long to decode; empty if it would not.

    * Each scan of a JPEG takes a few bytes but covers the whole image; encoders write about twenty at most.
    * Pillow reads the pixels of a textual portable map one by one.

    Args:
        image: Opened, not decoded yet.
        stream: Its file; the position is restored.
    """
    if image.format in ("JPEG", "MPO") and (count := count_scans(stream)) > MAX_SCANS:
        return f"{count} scans are above the limit of {MAX_SCANS}"
    in_text = any(tile[0] == "ppm_plain" for tile in getattr(image, "tile", ()))
    pixels = image.width * image.height / 1e6
    # 1 MP of text: chosen; a test's or a paper's figure is far smaller.
    return f"{pixels:.0f} MP of text are above the limit of 1 MP" if in_text and pixels > 1 else ""


def count_scans(stream: BinaryIO) -> int:
    """Count the scans of a JPEG."""
    count, tail, before = 0, b"", stream.tell()
    stream.seek(0)
    while piece := stream.read(PIECE):
        count += len(SCAN.findall(tail + piece))
        tail = piece[1 - SCAN_BYTES :]
    stream.seek(before)
    return count


def is_netpbm(start: bytes) -> bool:
    """Whether a file starts with the complete header of a portable bitmap, greymap or pixmap.

    An incomplete one is refused, because Pillow reads the header's comments byte by byte, however long they are.
    """
    return NETPBM.match(start) is not None
