"""Decode many images in threads (Pillow releases the GIL), each file once."""

import hashlib
import statistics
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from effxfer.data.listing import Item
from effxfer.data.sources.builtin import builtin_image
from effxfer.data.sources.image_bytes import read_image_bytes
from effxfer.data.sources.shards.tar_index import split_path
from effxfer.runtime.images.crop import resize_crop
from effxfer.runtime.images.formats import byte_limit, unreadable_error
from effxfer.runtime.images.preprocess import ImageError, ImageFacts, Preprocess, decode_with_facts, read_size
from effxfer.runtime.threads import usable_logical_cores

if TYPE_CHECKING:
    from PIL import Image

# Images of a task for a thread: chosen; more make progress jump, fewer cost a queue entry each.
CHUNK = 32
# Chosen: nothing is to be seen on 8 pixels, or on a line. At an aspect of 2 a centre crop loses half.
EXTREME_SIDE, EXTREME_ASPECT, LONG_ASPECT = 8, 20, 2
# Headers of 64 files give the median well enough. 160 px: chosen; below, most of the time holds the GIL.
SIDE_SAMPLE, SMALL_SIDE = 64, 160
KINDS = {
    "W303": "suspicious file, decoded anyway",
    "W304": "16 bits scaled to 8",
    "W305": "several frames, the first is used",
    "W308": "tiny, or extremely long",
    "W385": "the centre crop loses more than half of it; keep all by backbone.crop = squash or letterbox",
}
T = TypeVar("T")
_thread_state = threading.local()


class Decoded(NamedTuple):
    """An image of a listing.

    Attributes:
        image: 8-bit RGB.
        facts: Its properties in the file.
        complaints: Pillow's warnings while decoding it.
    """

    image: "Image.Image"
    facts: ImageFacts
    complaints: tuple[str, ...]


def decode_item(root: Path | None, item: Item, max_pixels: int) -> Decoded:
    """Decode one image, and check that its file is unchanged since it was listed.

    Args:
        root: The listing's root; None for a built-in source.
        item: The listed image.
        max_pixels: Refuse images with more pixels, before decoding them.

    Raises:
        ImageError: If it cannot be decoded; `E322` if the file changed after it was listed.
    """
    if root is None:
        return _decode_builtin(item)
    _thread_state.complaints = []
    try:
        data = read_image_bytes(root, item.path, byte_limit(max_pixels))
    except OSError as error:
        raise unreadable_error(error) from None
    # What is decoded must be what the key of the cache was computed from.
    if hashlib.sha256(data).hexdigest() != item.sha256:
        raise ImageError("changed while it was being used", "run again when the data set is at rest", code="E322")
    image, facts = decode_with_facts(data, max_pixels=max_pixels)
    return Decoded(image, facts, tuple(_thread_state.complaints))


def canvas(image: "Image.Image", side: int, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Fit the whole image into a square, letterboxed like the evaluation view or squashed: uint8 `(side, side, 3)`."""
    shape = "letterbox" if preprocess.crop == "letterbox" else "squash"
    return resize_crop(image, replace(preprocess, size=side, crop_pct=1.0, crop=shape))


def find_warnings(decoded: Decoded, crop: str = "center") -> dict[str, str]:
    """Return the warnings about an image by code (`KINDS`), with details.

    Args:
        decoded: The image.
        crop: `Preprocess.crop` of the network.
    """
    facts, details = decoded.facts, {}
    if decoded.complaints:
        details["W303"] = "; ".join(decoded.complaints)
    if facts.bits == 16:
        details["W304"] = f"mode {facts.mode}"
    if facts.animated:
        details["W305"] = facts.format
    if min(facts.width, facts.height) < EXTREME_SIDE or _aspect(facts) > EXTREME_ASPECT:
        details["W308"] = f"{facts.width}x{facts.height}"
    elif crop == "center" and _aspect(facts) > LONG_ASPECT:
        details["W385"] = f"{facts.width}x{facts.height}, {cropped_fraction(facts):.0%} cut off"
    return {} if facts.format == "builtin" else details


def cropped_fraction(facts: ImageFacts) -> float:
    """Return the fraction of an image outside its largest centred square, in [0, 1)."""
    return 1 - 1 / _aspect(facts)


def _aspect(facts: ImageFacts) -> float:
    return max(facts.width, facts.height) / min(facts.width, facts.height)


def typical_side(root: Path | None, items: Sequence[Item], max_pixels: int) -> int:
    """Return the median longer side in pixels of about 64 images, evenly spread over the items; 0 without any."""
    sample = items[:: max(1, len(items) // SIDE_SAMPLE)]
    return int(statistics.median([_longer_side(root, item, max_pixels) for item in sample])) if sample else 0


def decoding_threads(requested: int | None, side: int) -> int:
    """Return the number of decoding threads: the requested one, or one per core, or a single one for small images.

    Small images do not profit from threads: most of their time is spent in Python, under the GIL.
    """
    return requested or (1 if side <= SMALL_SIDE else usable_logical_cores())


def _longer_side(root: Path | None, item: Item, max_pixels: int) -> int:
    if root is None:
        return int(max(builtin_image(item.path).shape))
    try:
        # Of a file the header alone is read.
        place = split_path(root, item.path)
        source = root / item.path if place is None else read_image_bytes(root, item.path, byte_limit(max_pixels))
        return max(read_size(source, max_pixels=max_pixels))
    except (ImageError, OSError):
        return 0


def run_threaded(task: Callable[[Item], T], items: Sequence[Item], workers: int) -> Iterator[list[tuple[int, T]]]:
    """Apply `task` to items in threads, and yield batches of `(position, result)` pairs as they complete.

    Pillow's warnings are collected per image (`Decoded.complaints`) instead of being printed.
    """
    with _capture_warnings(), ThreadPoolExecutor(workers) as pool:
        futures: list[Future[list[tuple[int, T]]]] = [
            pool.submit(lambda s: [(i, task(items[i])) for i in range(s, min(s + CHUNK, len(items)))], start)
            for start in range(0, len(items), CHUNK)
        ]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            # After an error or Ctrl-C, what has not begun is not begun.
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _capture_warnings() -> Iterator[None]:
    shown = warnings.showwarning

    def capture(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        if hasattr(_thread_state, "complaints"):
            _thread_state.complaints.append(str(message))
        else:
            shown(message, *args, **kwargs)

    with warnings.catch_warnings():
        # Python shows equal warnings once; here every image needs its own.
        warnings.simplefilter("always")
        warnings.showwarning = capture
        yield


def _decode_builtin(item: Item) -> Decoded:
    from PIL import Image

    image = Image.fromarray(builtin_image(item.path)).convert("RGB")
    facts = ImageFacts(format="builtin", mode="L", width=image.width, height=image.height)
    return Decoded(image, facts, ())
