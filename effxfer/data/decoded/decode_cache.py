"""Decode the images of a listing into cached arrays: evaluation views, and canvases for augmentation."""

import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effxfer.data.checks.leaks import find_leaks
from effxfer.data.decoded import decode
from effxfer.data.decoded.cache import Entry
from effxfer.data.decoded.store import Store
from effxfer.data.listing import SHOWN, SPLITS, UNLABELLED, Item, Listing
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError
from effxfer.files import digest
from effxfer.runtime.images.crop import resize_crop
from effxfer.runtime.images.preprocess import ImageError, Preprocess

if TYPE_CHECKING:
    from PIL import Image

DECODER = 3  # 2: facts hold `lost`; 3: portable maps are images
AUGMENTED = frozenset({"train", UNLABELLED})
# A file that cannot be read now, or changed: in the cache this would stay so.
TRANSIENT = frozenset({"E300", "E322"})


class UnusableImage(NamedTuple):
    """An image that cannot be used: its path, the error code and the problem."""

    path: str
    code: str
    problem: str


class DecodedRow(NamedTuple):
    """A decoded image: codes of warnings, the fraction that the centre crop loses, a digest of its evaluation view."""

    warnings: tuple[str, ...]
    cropped: float
    view: str


@dataclass(frozen=True)
class DecodePlan:
    """Plan for decoding the images of one listing into arrays.

    Attributes:
        listing: The images.
        settings: `canvas_scale`, `max_pixels` and `workers` are used.
        preprocess: Size, crop and interpolation.
        progress: Called with the number of decoded images and of all images.
    """

    listing: Listing
    settings: DataSettings
    preprocess: Preprocess
    progress: Callable[[int, int], None] | None = None

    def key(self) -> str:
        """Digest everything that the arrays depend on; it also determines the canvas side."""
        from PIL import __version__ as pillow

        view = self.preprocess.decode_key()
        # HEIC files are unreadable until its package is there; that must not be cached.
        heic = any(item.path.lower().endswith((".heic", ".heif")) for item in self.listing.items)
        limits = [self.settings.canvas_scale, self.settings.max_pixels, heic and find_spec("pillow_heif") is not None]
        # With Pillow's version: another one may decode and resize to other bits.
        return digest([DECODER, pillow, self.listing.digest, view, limits], length=24)

    def bytes_needed(self) -> int:
        """Return an upper bound of the arrays' size on disk."""
        # The canvas side is rounded to a multiple of 8.
        side = int(self.preprocess.size * self.settings.canvas_scale) + 8
        return 3 * self.preprocess.size**2 * len(self.listing.everything) + 3 * side**2 * sum(
            len(self.listing.split(name)) for name in AUGMENTED
        )

    def build(self, store: Store) -> dict[str, Any]:
        """Decode into the arrays of a store.

        Returns:
            `bad`: unusable images, whose rows are dropped; `seen`: paths by warning; `lost`: median fraction that the
            centre crop loses of the images with W385; `twins`: pairs of path and text for images whose evaluation
            view equals that of an image in an earlier split.

        Raises:
            DataError: `E322` if a file changed or vanished after it was listed.
        """
        items = self.listing.everything
        results = self._decode(self._arrays(store))
        bad = sorted(result for result in results if isinstance(result, UnusableImage))
        _raise_if_transient(bad, str(self.listing.root))
        self._drop_rows(store, {image.path for image in bad})
        views = {i.path: r.view for i, r in zip(items, results, strict=True) if isinstance(r, DecodedRow)}
        return {
            "bad": bad,
            "seen": _paths_by_warning(items, results),
            "lost": _median_cropped(results),
            "twins": [[f.path, f.text] for f in find_leaks(self.listing.items, views, "same pixels", "warning")],
        }

    @cached_property
    def canvas_side(self) -> int:
        """Side of the canvas in pixels: room for random crops, but at most the typical side of the images."""
        size = self.preprocess.size
        requested = round(size * self.settings.canvas_scale / 8) * 8
        # Larger canvases than the images would only hold interpolated pixels.
        available = -(-self.typical_side // 8) * 8
        return max(size, min(requested, available))

    @cached_property
    def typical_side(self) -> int:
        """Median longer side of the training images in pixels; reads the headers of a sample, once."""
        return decode.typical_side(self.listing.root, self.listing.split("train"), self.settings.max_pixels)

    def fits(self, entry: Entry) -> bool:
        """Whether an entry has the arrays and shapes that the listing implies, without its unusable images."""
        unusable = {path for path, _, _ in entry.facts["bad"]}
        count = Counter(item.split for item in self.listing.everything if item.path not in unusable)
        shapes = {name: array.shape for name, array in entry.arrays.items()}
        side = shapes["train_canvas"][1]
        return shapes == self._shapes(count, side) and {"lost", "seen", "twins"} <= entry.facts.keys()

    def _shapes(self, count: Mapping[str, int], side: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each array for the number of images of each split and the canvas side."""
        size = self.preprocess.size
        shapes: dict[str, tuple[int, ...]] = {f"{s}_pixels": (count[s], size, size, 3) for s in self._splits()}
        augmented = [s for s in self._splits() if s in AUGMENTED]
        shapes |= {f"{s}_canvas": (count[s], side, side, 3) for s in augmented}
        return shapes | {f"{s}_aspect": (count[s],) for s in augmented}

    def _arrays(self, store: Store) -> dict[str, NDArray[Any]]:
        shapes = self._shapes(Counter(item.split for item in self.listing.everything), self.canvas_side)
        kinds = {name: "float32" if name.endswith("_aspect") else "uint8" for name in shapes}
        return {name: store.create(name, shape, kinds[name]) for name, shape in shapes.items()}

    def _splits(self) -> tuple[str, ...]:
        return (*SPLITS, UNLABELLED) if self.listing.unlabelled else SPLITS

    def _decode(self, arrays: Mapping[str, NDArray[Any]]) -> list[UnusableImage | DecodedRow]:
        items, count = self.listing.everything, 0
        rows = _row_numbers(items)
        results: list[UnusableImage | DecodedRow] = [UnusableImage("", "", "")] * len(items)
        workers = decode.decoding_threads(self.settings.workers, self.typical_side)
        for batch in decode.run_threaded(
            lambda item: self._decode_image(item, rows[item.path], arrays), items, workers
        ):
            for position, result in batch:
                results[position] = result
            count += len(batch)
            if self.progress:
                self.progress(count, len(items))
        return results

    def _decode_image(self, item: Item, row: int, arrays: Mapping[str, NDArray[Any]]) -> UnusableImage | DecodedRow:
        try:
            decoded = decode.decode_item(self.listing.root, item, self.settings.max_pixels)
        except ImageError as error:
            return UnusableImage(item.path, error.code, error.problem)
        view = resize_crop(decoded.image, self.preprocess)
        arrays[f"{item.split}_pixels"][row] = view
        if item.split in AUGMENTED:
            canvas = arrays[f"{item.split}_canvas"]
            canvas[row] = decode.canvas(decoded.image, canvas.shape[1], self.preprocess)
            arrays[f"{item.split}_aspect"][row] = self._aspect(decoded.image)
        warnings = decode.find_warnings(decoded, self.preprocess.crop)
        cropped = decode.cropped_fraction(decoded.facts) if "W385" in warnings else 0.0
        return DecodedRow(tuple(warnings), cropped, hashlib.blake2b(view.tobytes(), digest_size=16).hexdigest())

    def _aspect(self, image: "Image.Image") -> float:
        """Return the aspect that augmentation restores when it crops a squashed canvas.

        With `squash` or `letterbox` it is 1: the network also evaluates squashed or letterboxed images.
        """
        return image.width / image.height if self.preprocess.crop == "center" else 1.0

    def _drop_rows(self, store: Store, unusable: set[str]) -> None:
        for name in store.arrays:
            items = self.listing.split(name.partition("_")[0])
            rows = np.array([row for row, item in enumerate(items) if item.path not in unusable], np.int64)
            store.keep_rows(name, rows)


def _row_numbers(items: Iterable[Item]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    rows = {}
    for item in items:
        rows[item.path] = counts[item.split]
        counts[item.split] += 1
    return rows


def _paths_by_warning(items: Iterable[Item], results: Iterable[UnusableImage | DecodedRow]) -> dict[str, list[str]]:
    paths = defaultdict(list)
    for item, result in zip(items, results, strict=True):
        for code in result.warnings if isinstance(result, DecodedRow) else ():
            paths[code].append(item.path)
    return dict(sorted(paths.items()))


def _median_cropped(results: Iterable[UnusableImage | DecodedRow]) -> float:
    fractions = [result.cropped for result in results if isinstance(result, DecodedRow) and result.cropped]
    return statistics.median(fractions) if fractions else 0.0


def _raise_if_transient(bad: Iterable[UnusableImage], source: str) -> None:
    """Raise for problems that may vanish, so that they are not cached.

    Raises:
        DataError: `E322`.
    """
    transient = [image for image in bad if image.code in TRANSIENT]
    if transient:
        shown = "; ".join(f"{image.path}: {image.problem}" for image in transient[:SHOWN])
        hint = "run again when nothing else changes the data set"
        raise DataError(f"{source}: {len(transient)} files changed while being read: {shown}", hint, code="E322")
