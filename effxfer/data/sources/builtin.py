"""Built-in data sets that ship with the dependencies: real images without a download."""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from effxfer.data.listing import Item, SourceListing
from effxfer.data.sources.builtin_texts import BUILTIN_TEXTS
from effxfer.errors import DataError, did_you_mean, missing_package

BUILTIN = ("digits",)


class Digits(NamedTuple):
    """1,797 handwritten digits.

    Attributes:
        images: uint8 `(1797, 8, 8)`, black to white.
        labels: int64 `(1797,)`, 0 to 9.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@cache
def load_digits() -> Digits:
    """Read scikit-learn's copy of the UCI "Optical Recognition of Handwritten Digits" test set.

    The file is read without importing scikit-learn, which takes seconds.

    Raises:
        ResourceError: If scikit-learn is not installed.
    """
    spec = find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise missing_package("scikit-learn", "dev", "the built-in digits")
    table = np.loadtxt(Path(spec.submodule_search_locations[0], "datasets/data/digits.csv.gz"), np.uint8, delimiter=",")
    # The file counts from 0 to 16.
    gray = np.rint(table[:, :64].astype(np.float32) * (255 / 16)).astype(np.uint8)
    return Digits(gray.reshape(-1, 8, 8), table[:, 64].astype(np.int64))


def read_builtin(name: str) -> SourceListing:
    """List a built-in data set with digests; each image has a path `LABEL/NUMBER`.

    Raises:
        DataError: If no built-in data set has this name.
    """
    if name not in BUILTIN:
        names = (*BUILTIN, *BUILTIN_TEXTS)
        hint = (
            f"built in: {', '.join(names)}; else give a folder, a table (.csv, .tsv, .parquet, .npz) or a file of texts"
        )
        raise DataError(f"no data at {name!r}{did_you_mean(name, names)}", hint, code="E310")
    images, labels = load_digits()
    return SourceListing(
        [
            Item(f"{label}/{number:04d}", str(label), sha256=hashlib.sha256(image.tobytes()).hexdigest())
            for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True))
        ],
        [],
    )


def builtin_image(path: str) -> NDArray[np.uint8]:
    """Return the gray pixels of one listed image: uint8 `(8, 8)`."""
    pixels: NDArray[np.uint8] = load_digits().images[int(path.partition("/")[2])]
    return pixels
