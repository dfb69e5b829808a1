"""Decoding of many images: every file once, in threads (Pillow frees the GIL), into rows of prepared arrays."""

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
from effxfer.data.sources.file_hashes import cores
from effxfer.runtime.images.crop import resize_crop
from effxfer.runtime.images.formats import byte_limit, unreadable_error
from effxfer.runtime.images.preprocess import ImageError, ImageFacts, Preprocess, decode_with_facts, read_size
from effxfer.runtime.reading import read_regular

if TYPE_CHECKING:
    from PIL import Image

CHUNK = 32
EXTREME_SIDE, EXTREME_ASPECT, LONG_ASPECT = 8, 20, 2
SAMPLED, SMALL_SIDE = 64, 160
KINDS = {
    "W303": "suspicious file, decoded nevertheless",
    "W304": "16 bits scaled to 8",
    "W305": "several frames, the first is used",
    "W308": "tiny, or extremely long",
    "W385": "the centre crop loses more than half of it; keep all by backbone.crop = squash or letterbox",
}
T = TypeVar("T")
_here = threading.local()


class Decoded(NamedTuple):
    """An image of a listing.

    Attributes:
        image: 8-bit RGB.
        facts: What it was in its file.
        complaints: What Pillow warned about while decoding it.
    """

    image: "Image.Image"
    facts: ImageFacts
    complaints: tuple[str, ...]


def decode_item(root: Path | None, item: Item, max_pixels: int) -> Decoded:
    """Decode one image and check that its file is still the one that was listed.

    Args:
        root: The listing's root; None for a built-in source.
        item: What to decode.
        max_pixels: As in `runtime.image.decode`.

    Raises:
        ImageError: As `decode`; `E322` if the file changed after it was listed.
    """
    if root is None:
        return _decode_builtin(item)
    _here.complaints = []
    try:
        data = read_regular(root / item.path, byte_limit(max_pixels))
    except OSError as error:
        raise unreadable_error(error) from None
    if hashlib.sha256(data).hexdigest() != item.sha256:
        raise ImageError("changed while it was being used", "run again when the data set is at rest", code="E322")
    image, facts = decode_with_facts(data, max_pixels=max_pixels)
    return Decoded(image, facts, tuple(_here.complaints))


def canvas(image: "Image.Image", side: int, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Put the whole image on a square, letterboxed if the network sees it so, or squashed: uint8 `(side, side, 3)`."""
    shape = "letterbox" if preprocess.crop == "letterbox" else "squash"
    return resize_crop(image, replace(preprocess, size=side, crop_pct=1.0, crop=shape))


def kinds(decoded: Decoded, crop: str = "center") -> dict[str, str]:
    """Say by code what is worth a warning about an image (`KINDS`), with details.

    Args:
        decoded: The image.
        crop: As in `Preprocess`.
    """
    facts, found = decoded.facts, {}
    if decoded.complaints:
        found["W303"] = "; ".join(decoded.complaints)
    if facts.bits == 16:
        found["W304"] = f"mode {facts.mode}"
    if facts.animated:
        found["W305"] = facts.format
    if min(facts.width, facts.height) < EXTREME_SIDE or _aspect(facts) > EXTREME_ASPECT:
        found["W308"] = f"{facts.width}x{facts.height}"
    elif crop == "center" and _aspect(facts) > LONG_ASPECT:
        found["W385"] = f"{facts.width}x{facts.height}, {cut_off(facts):.0%} cut off"
    return {} if facts.format == "builtin" else found


def cut_off(facts: ImageFacts) -> float:
    """Give the share of an image that lies outside its largest square, in [0, 1)."""
    return 1 - 1 / _aspect(facts)


def _aspect(facts: ImageFacts) -> float:
    return max(facts.width, facts.height) / min(facts.width, facts.height)


def typical_side(root: Path | None, items: Sequence[Item], max_pixels: int) -> int:
    """Give the median longer side in pixels of some 64 images, spread over the items; 0 without any."""
    sample = items[:: max(1, len(items) // SAMPLED)]
    return int(statistics.median([_longer_side(root, item, max_pixels) for item in sample])) if sample else 0


def threads(asked: int | None, side: int) -> int:
    """Give the number of decoding threads: what is asked for, else one per core, or one alone for small images.

    Threads hinder one another on small images, where Python's share of the work is larger than the decoder's.
    """
    return asked or (1 if side <= SMALL_SIDE else cores())


def _longer_side(root: Path | None, item: Item, max_pixels: int) -> int:
    if root is None:
        return int(max(builtin_image(item.path).shape))
    try:
        return max(read_size(root / item.path, max_pixels=max_pixels))
    except ImageError:
        return 0


def run(task: Callable[[Item], T], items: Sequence[Item], workers: int) -> Iterator[list[tuple[int, T]]]:
    """Apply `task` to items in threads and give `(position, result)` pairs in batches, as they get done.

    Pillow's warnings are kept per image (`Decoded.complaints`) instead of being shown.
    """
    with _heard_warnings(), ThreadPoolExecutor(workers) as pool:
        futures: list[Future[list[tuple[int, T]]]] = [
            pool.submit(lambda s: [(i, task(items[i])) for i in range(s, min(s + CHUNK, len(items)))], start)
            for start in range(0, len(items), CHUNK)
        ]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _heard_warnings() -> Iterator[None]:
    shown = warnings.showwarning

    def hear(message: Warning | str, *where: Any, **more: Any) -> None:
        if hasattr(_here, "complaints"):
            _here.complaints.append(str(message))
        else:
            shown(message, *where, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = hear
        yield


def _decode_builtin(item: Item) -> Decoded:
    from PIL import Image

    image = Image.fromarray(builtin_image(item.path)).convert("RGB")
    facts = ImageFacts(format="builtin", mode="L", width=image.width, height=image.height)
    return Decoded(image, facts, ())
