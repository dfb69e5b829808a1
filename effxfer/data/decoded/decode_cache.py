"""The images of a listing, decoded once into cached arrays: evaluation views, and canvases to augment from."""

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

from effxfer.data.checks.leaks import leaks
from effxfer.data.decoded import decode
from effxfer.data.decoded.cache import Entry
from effxfer.data.decoded.store import Store
from effxfer.data.listing import SPLITS, UNLABELLED, Item, Listing
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError
from effxfer.files import digest
from effxfer.runtime.images.crop import padding_key, resize_crop
from effxfer.runtime.images.preprocess import ImageError, Preprocess

if TYPE_CHECKING:
    from PIL import Image

DECODER = 3  # 2: facts hold `lost`; 3: portable maps are images
AUGMENTED = frozenset({"train", UNLABELLED})
PASSING = frozenset({"E300", "E322"})


class Bad(NamedTuple):
    """An image that cannot be used: its path, the code and what is wrong."""

    path: str
    code: str
    problem: str


class Good(NamedTuple):
    """A decoded image: warnings by code, the share that the centre crop loses, a digest of its evaluation view."""

    seen: tuple[str, ...]
    lost: float
    view: str


@dataclass(frozen=True)
class DecodePlan:
    """How the images of one listing become arrays.

    Attributes:
        listing: What to decode.
        settings: `canvas_scale`, `max_pixels` and `workers` are used.
        preprocess: Size, crop and interpolation.
        progress: Called with images done and in all.
    """

    listing: Listing
    settings: DataSettings
    preprocess: Preprocess
    progress: Callable[[int, int], None] | None = None

    def key(self) -> str:
        """Name everything that the arrays depend on; the canvas side follows from it."""
        from PIL import __version__ as pillow

        view = {k: v for k, v in self.preprocess.to_json().items() if k not in ("mean", "std")}
        if colour := padding_key(self.preprocess):
            view["border"] = colour
        heic = any(item.path.lower().endswith((".heic", ".heif")) for item in self.listing.items)
        limits = [self.settings.canvas_scale, self.settings.max_pixels, heic and find_spec("pillow_heif") is not None]
        return digest([DECODER, pillow, self.listing.digest, view, limits], length=24)

    def bytes_needed(self) -> int:
        """Give the size of the arrays on disk, at most."""
        side = int(self.preprocess.size * self.settings.canvas_scale) + 8
        return 3 * self.preprocess.size**2 * len(self.listing.everything) + 3 * side**2 * sum(
            len(self.listing.split(name)) for name in AUGMENTED
        )

    def build(self, store: Store) -> dict[str, Any]:
        """Decode into arrays of a store.

        Returns:
            `bad`: `Bad` images, whose rows are left out; `seen`: paths by warning;
            `lost`: median share of what the centre crop loses of the images with W385;
            `twins`: images whose evaluation view equals that of an image in an earlier split, as pairs of paths.

        Raises:
            DataError: `E322` or `E300` if a file changed or vanished after it was listed.
        """
        items = self.listing.everything
        results = self._decode(self._arrays(store))
        bad = sorted(result for result in results if isinstance(result, Bad))
        _stop_if_passing(bad, str(self.listing.root))
        self._drop(store, {one.path for one in bad})
        views = {i.path: r.view for i, r in zip(items, results, strict=True) if isinstance(r, Good)}
        return {
            "bad": bad,
            "seen": _seen(items, results),
            "lost": _lost(results),
            "twins": [[f.path, f.text] for f in leaks(self.listing.items, views, "same pixels", "warning")],
        }

    @cached_property
    def canvas_side(self) -> int:
        """Side of the canvas in pixels: room for random crops, not more than most images have."""
        size = self.preprocess.size
        requested = round(size * self.settings.canvas_scale / 8) * 8
        available = -(-self.typical_side // 8) * 8
        return max(size, min(requested, available))

    @cached_property
    def typical_side(self) -> int:
        """Median longer side of the training images in pixels; reads the headers of a sample of them, once."""
        return decode.typical_side(self.listing.root, self.listing.split("train"), self.settings.max_pixels)

    def fits(self, entry: Entry) -> bool:
        """Whether arrays are as many, and of the shapes, that the listing and what could not be read leave."""
        lost = {path for path, _, _ in entry.facts["bad"]}
        count = Counter(item.split for item in self.listing.everything if item.path not in lost)
        shapes = {name: array.shape for name, array in entry.arrays.items()}
        side = shapes["train_canvas"][1]
        return shapes == self._shapes(count, side) and {"lost", "seen", "twins"} <= entry.facts.keys()

    def _shapes(self, count: Mapping[str, int], side: int) -> dict[str, tuple[int, ...]]:
        """Give the shape of each array, by the images of each split and the canvas side."""
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

    def _decode(self, arrays: Mapping[str, NDArray[Any]]) -> list[Bad | Good]:
        items, done = self.listing.everything, 0
        rows = _rows(items)
        results: list[Bad | Good] = [Bad("", "", "")] * len(items)
        workers = decode.threads(self.settings.workers, self.typical_side)
        for batch in decode.run(lambda item: self._one(item, rows[item.path], arrays), items, workers):
            for position, result in batch:
                results[position] = result
            done += len(batch)
            if self.progress:
                self.progress(done, len(items))
        return results

    def _one(self, item: Item, row: int, arrays: Mapping[str, NDArray[Any]]) -> Bad | Good:
        try:
            decoded = decode.decode_item(self.listing.root, item, self.settings.max_pixels)
        except ImageError as error:
            return Bad(item.path, error.code, error.problem)
        view = resize_crop(decoded.image, self.preprocess)
        arrays[f"{item.split}_pixels"][row] = view
        if item.split in AUGMENTED:
            canvas = arrays[f"{item.split}_canvas"]
            canvas[row] = decode.canvas(decoded.image, canvas.shape[1], self.preprocess)
            arrays[f"{item.split}_aspect"][row] = self._aspect(decoded.image)
        seen = decode.kinds(decoded, self.preprocess.crop)
        lost = decode.cut_off(decoded.facts) if "W385" in seen else 0.0
        return Good(tuple(seen), lost, hashlib.blake2b(view.tobytes(), digest_size=16).hexdigest())

    def _aspect(self, image: "Image.Image") -> float:
        """Give what augmentation takes the canvas for: a squashed photograph is cropped to upright shapes again.

        Where the network sees images squashed or letterboxed, crops are taken of what it sees.
        """
        return image.width / image.height if self.preprocess.crop == "center" else 1.0

    def _drop(self, store: Store, lost: set[str]) -> None:
        for name in store.arrays:
            items = self.listing.split(name.partition("_")[0])
            keep = np.array([row for row, item in enumerate(items) if item.path not in lost], np.int64)
            store.keep_rows(name, keep)


def _rows(items: Iterable[Item]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    rows = {}
    for item in items:
        rows[item.path] = counts[item.split]
        counts[item.split] += 1
    return rows


def _seen(items: Iterable[Item], results: Iterable[Bad | Good]) -> dict[str, list[str]]:
    seen = defaultdict(list)
    for item, result in zip(items, results, strict=True):
        for code in result.seen if isinstance(result, Good) else ():
            seen[code].append(item.path)
    return dict(sorted(seen.items()))


def _lost(results: Iterable[Bad | Good]) -> float:
    shares = [result.lost for result in results if isinstance(result, Good) and result.lost]
    return statistics.median(shares) if shares else 0.0


def _stop_if_passing(bad: Iterable[Bad], where: str) -> None:
    """Do not remember what may be over in a moment."""
    passing = [one for one in bad if one.code in PASSING]
    if passing:
        shown = "; ".join(f"{one.path}: {one.problem}" for one in passing[:5])
        hint = "run again when nothing else changes the data set"
        raise DataError(f"{where}: {len(passing)} files changed while being read: {shown}", hint, code="E322")
