"""Convert vectors of numbers into the network's input: standardised by the training split, or as they are.

Training, calibration, gates and deployment share this class, so they get the same numbers.

Shape legend: B vectors, D numbers of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.model_file import strict
from effxfer.runtime.vectors.array_file import LARGEST_ARRAY, read_arrays
from effxfer.runtime.vectors.vector_error import VectorError

__all__ = ["FEATURES", "VectorError", "VectorRow", "Vectors", "read_vectors", "to_float32"]
FEATURES = "features"
# Chosen: bags of words have some ten thousand columns; mean and deviation of each stand in every file.
LARGEST_WIDTH = 100_000
# Nine digits tell any two numbers of float32 apart.
DIGITS = 9


class VectorRow(NamedTuple):
    """One vector of a file.

    Attributes:
        file: The file.
        row: Its number, from 0.
        values: float32 `(D,)`.
    """

    file: Path
    row: int
    values: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Conversion of a vector of numbers into the network's input; stored in every artifact and ONNX file.

    Attributes:
        size: D, the numbers of a vector.
        mean: Of each column, subtracted; empty for none.
        std: Of each column, the divisor after that, above 0; empty for none.
        standardize: Whether mean and deviation are to be those of the training split, which is not known yet.

    Raises:
        ValueError: If there is not a mean and a deviation above 0 for each column, or the width is out of its range.
    """

    kind: ClassVar[str] = "vector"
    name: ClassVar[str] = FEATURES
    unit: ClassVar[str] = "vectors"
    free: ClassVar[Mapping[int, str]] = MappingProxyType({0: "batch"})

    size: int
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    standardize: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.size <= LARGEST_WIDTH:
            raise ValueError(f"vectors of {self.size} numbers, 1 to {LARGEST_WIDTH} are possible")
        if len(self.mean) != len(self.std) or len(self.mean) not in (0, self.size) or min(self.std, default=1) <= 0:
            raise ValueError(f"mean and std are no numbers for {self.size} columns, deviations above 0")

    def with_size(self, size: int) -> "Vectors":
        """Return the same conversion, whose width is fixed.

        Raises:
            VectorError: `E219` for another width.
        """
        if size != self.size:
            text = f"the network takes vectors of {self.size} numbers, not {size}"
            raise VectorError(text, "leave size out", code="E219")
        return self

    def fit(self, rows: NDArray[np.float32]) -> "Vectors":
        """Return the conversion with mean and deviation of training rows `(N, D)`, N at least 1.

        Without `standardize`, or once they are known, it stays as it is. A constant column is only shifted.
        """
        if not self.standardize:
            return self
        mean, std = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
        # Below what float32 resolves at this size, a deviation is rounding alone.
        std[std <= np.abs(mean) * np.finfo(np.float32).eps] = 1.0
        return replace(self, mean=_round_digits(mean), std=_round_digits(std), standardize=False)

    def decode(self, source: Any) -> NDArray[np.float32]:
        """Take one vector: an array or a list of D numbers, or a row of a file.

        Raises:
            VectorError: `E361` if it has another shape or type, `E363` if a number is NaN or infinite.
        """
        values = source.values if isinstance(source, VectorRow) else source
        array = to_float32(np.asarray(values), "it")
        if array.shape != (self.size,):
            text = f"an array of shape {array.shape} is no vector of {self.size} numbers"
            raise VectorError(text, f"give {self.size} numbers, as the network was trained with", code="E361")
        if not np.isfinite(array).all():
            raise VectorError("the vector has NaN or infinity", "fill it in, or leave the vector out", code="E363")
        return array

    def feed(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standardise vectors `(B, D)`: float32 `(B, D)`."""
        rows = np.asarray(rows, np.float32)
        if not self.mean:
            return rows
        mean, scale = self._constants
        return (rows - mean) * scale

    def example(self, batch: int = 2, seed: int | None = None) -> NDArray[np.float32]:
        """Return an input `(batch, D)`: zeros, or with `seed` normal numbers, as standardised ones are."""
        shape = (batch, self.size)
        if seed is None:
            return np.zeros(shape, np.float32)
        return np.random.default_rng(seed).standard_normal(shape, np.float32)

    def real(self, x: Any) -> None:
        """Return None: a vector has no padding."""

    def files(self) -> dict[str, bytes]:
        """Return nothing: no file lies beside."""
        return {}

    def decode_key(self) -> dict[str, Any]:
        """Return the settings that decoded vectors depend on; mean and deviation are applied afterwards."""
        return {"size": self.size}

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values; mean and deviation only if there are any."""
        plain: dict[str, Any] = {"kind": self.kind, "size": self.size}
        plain |= {"mean": list(self.mean), "std": list(self.std)} if self.mean else {}
        return plain | ({"standardize": True} if self.standardize else {})

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Vectors":
        """Read the values of `to_json`.

        Raises:
            ValueError: If a field is unknown, missing or out of its range.
        """
        unknown = [str(name) for name in raw if name not in ("kind", "size", "mean", "std", "standardize")]
        size, standardize = raw.get("size"), raw.get("standardize", False)
        if unknown or type(size) is not int or type(standardize) is not bool:
            problem = f"the unknown field {unknown[0]!r:.60}" if unknown else "no whole number as size"
            raise ValueError(f"the input has {problem}")
        lists = {name: strict.numbers(name, raw.get(name, ())) for name in ("mean", "std")}
        return cls(size=size, standardize=standardize, **lists)

    @cached_property
    def _constants(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean, and one over the deviation, float32 `(D,)` each."""
        return np.array(self.mean, np.float32), (1 / np.array(self.std)).astype(np.float32)


def read_vectors(file: Path) -> list[VectorRow]:
    """Read the vectors of a `.npy` file, `(N, D)` or `(D,)`, or of the array `features` of a `.npz` file.

    Raises:
        VectorError: `E360` to `E362` if the file cannot be used.
    """
    arrays = read_arrays(file, (FEATURES,), LARGEST_ARRAY)
    if FEATURES not in arrays:
        raise VectorError(f"{file} holds no array {FEATURES!r}", "save it under this name", code="E361")
    rows = to_float32(arrays[FEATURES], f"{FEATURES} of {file}")
    if rows.ndim not in (1, 2):
        raise VectorError(f"{file} holds an array of shape {rows.shape}, not (N, D)", "flatten it", code="E361")
    return [VectorRow(file, row, values) for row, values in enumerate(np.atleast_2d(rows))]


def to_float32(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Convert numbers to float32.

    Raises:
        VectorError: `E361` if they are no numbers.
    """
    if array.dtype.kind not in "biuf":
        raise VectorError(f"{name} is {array.dtype}, no numbers", "give floats or integers", code="E361")
    with np.errstate(over="ignore"):  # beyond float32 it is infinite, which is refused as such
        return array.astype(np.float32, copy=False)


def _round_digits(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in values.tolist())
