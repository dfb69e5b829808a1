"""Classes that a device knows by a few images: their prototypes, in a file beside the model.

Shape legend: C classes, D features.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.images.preprocess import ImageError
from effxfer.runtime.vectors.array_file import read_arrays
from effxfer.runtime.vectors.vector_error import VectorError

SUFFIX = ".classes.npz"
ARRAYS = ("labels", "prototypes", "shots", "key")
HINT = "enrol the classes again, with this model"


@dataclass(frozen=True, eq=False)
class EnrolledClasses:
    """Classes that are known by a prototype.

    Attributes:
        labels: Names of the C classes.
        prototypes: float32 `(C, D)`, means of features.
        shots: Number of images behind each prototype.
        key: That of the model which computed the features; other models have other features.
    """

    labels: tuple[str, ...]
    prototypes: NDArray[np.float32]
    shots: tuple[int, ...]
    key: str

    def save(self, file: Path) -> Path:
        """Write them as `.npz`; an existing file is replaced only by a complete one."""
        part = file.with_name(file.name + ".part")
        with part.open("wb") as stream:
            np.savez(
                stream, labels=np.array(self.labels, np.str_), prototypes=self.prototypes,
                shots=np.array(self.shots, np.int64), key=np.array(self.key, np.str_),
            )  # fmt: skip
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
        return file


def read_enrolled(file: Path) -> EnrolledClasses:
    """Read what `EnrolledClasses.save` wrote; nothing in the file is executed.

    Raises:
        ImageError: If it is no such file, or damaged (`E310`).
    """
    try:
        arrays = read_arrays(file, ARRAYS)
        labels, prototypes, shots, key = (arrays[name] for name in ARRAYS)
        enrolled = EnrolledClasses(tuple(map(str, labels)), prototypes, tuple(map(int, shots)), str(key))
        fits = prototypes.dtype == np.float32 and prototypes.shape[:1] == labels.shape == shots.shape
        if prototypes.ndim != 2 or not fits or not np.isfinite(prototypes).all():
            raise ValueError("its arrays do not fit together")
    except VectorError as error:
        raise ImageError(f"{file} holds no enrolled classes: {error.problem}", HINT, code="E310") from None
    except (LookupError, ValueError, TypeError) as error:
        raise ImageError(f"{file} holds no enrolled classes: {error}", HINT, code="E310") from None
    return enrolled
