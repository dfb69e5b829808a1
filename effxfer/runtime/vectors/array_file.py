"""Read arrays from `.npy` and `.npz` files: only those that are asked for, never pickles, sizes checked before.

The format is NumPy's, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

import io
import zipfile
import zlib
from collections.abc import Collection
from math import prod
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from effxfer.runtime.reading import TooLargeError, open_regular
from effxfer.runtime.vectors.vector_error import VectorError

# Chosen: two million vectors of 1,024 numbers; an array is held in memory while it is read.
LARGEST_ARRAY = 2**33
# Zeros are compressed a thousandfold: 8 MB from anybody would take 8 GB. Bags of words of 1 % nonzero numbers are
# compressed about fiftyfold, and 256 MB are read whatever they were compressed to; chosen.
MOST_EXPANSION = 100
FREELY_EXPANDED = 2**28
# Features, labels, splits and class names are four; others are not read.
MOST_ARRAYS = 1000
# A header states a type and a shape, some 120 bytes; NumPy evaluates it as a literal of Python.
LONGEST_HEADER = 10_000
KINDS = "biufUS"  # bool, integers, floats, texts
HINT = "save it with numpy.savez(file, features=..., labels=...)"
READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
# What zipfile, zlib and NumPy's reader of headers raise for damaged, encrypted and foreign files.
DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, SyntaxError, TokenError, ValueError,
)  # fmt: skip


def read_arrays(file: Path, names: Collection[str], limit: int = LARGEST_ARRAY) -> dict[str, NDArray[Any]]:
    """Read the arrays of a file.

    Args:
        file: `.npz`, of which the arrays of these names are read; or `.npy`, whose single array gets the first name.
        names: Names of arrays, at least one.
        limit: Most bytes of an array.

    Returns:
        The arrays that it holds, by name, of types bool, integer, float or text.

    Raises:
        VectorError: `E360` if it is no such file, or damaged; `E361` if an array holds objects or another type; `E362`
            if one is too large.
    """
    try:
        with open_regular(file) as stream:
            start = stream.read(len(npy.MAGIC_PREFIX))
            stream.seek(0)
            if start == npy.MAGIC_PREFIX:
                return {next(iter(names)): _read_array(stream, _length(stream), str(file), limit)}
            return _read_archive(stream, file, names, limit)
    except VectorError:
        raise
    except TooLargeError as error:
        raise VectorError(f"{file}: {error.strerror}", "split it into several files", code="E362") from None
    except OSError as error:
        raise VectorError(f"{file} cannot be read: {error.strerror}", HINT, code="E360") from None
    except DAMAGE as error:
        raise VectorError(f"{file} is no intact .npz or .npy file: {error!s:.200}", HINT, code="E360") from None


def _read_archive(stream: io.BufferedReader, file: Path, names: Collection[str], limit: int) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        # Of two entries of one name, programs read different ones.
        stored = [entry.filename for entry in entries]
        if len(entries) > MOST_ARRAYS or len(set(stored)) < len(stored):
            text = f"{file} has {len(entries)} arrays, {MOST_ARRAYS} of different names at most"
            raise VectorError(text, HINT, code="E360")
        name_of = {f"{name}.npy": name for name in names}
        arrays = {}
        for entry in entries:
            if entry.filename in name_of:
                name = name_of[entry.filename]
                _require_little_expansion(entry, f"{name} of {file}")
                with archive.open(entry) as member:
                    arrays[name] = _read_array(member, entry.file_size, f"{name} of {file}", limit)
        return arrays


def _require_little_expansion(entry: zipfile.ZipInfo, name: str) -> None:
    allowed = max(FREELY_EXPANDED, MOST_EXPANSION * entry.compress_size)
    if entry.file_size > allowed:
        text = f"{name} grows from {entry.compress_size / 1e6:,.1f} to {entry.file_size / 1e6:,.0f} MB"
        raise VectorError(text, "save it without compression, with numpy.savez", code="E362")


def _read_array(stream: IO[bytes], size: int, name: str, limit: int) -> NDArray[Any]:
    """Read an array from a stream of `size` bytes, as the file states."""
    version = npy.read_magic(stream)
    if version not in READERS:
        raise VectorError(f"{name} is written in version {version} of the format", HINT, code="E360")
    shape, columns_first, dtype = READERS[version](stream, max_header_size=LONGEST_HEADER)
    if dtype.kind not in KINDS or dtype.itemsize == 0:
        text = f"{name} holds {dtype}, no numbers or texts; objects could run code"
        raise VectorError(text, "save plain numbers or texts, for example with astype(str)", code="E361")
    # Python's integers: NumPy's product would wrap around.
    expected = prod(shape) * dtype.itemsize
    if expected > limit:
        text = f"{name} has {expected / 1e6:,.0f} MB, {limit / 1e6:,.0f} MB are read at most"
        raise VectorError(text, "split it into several files, or save float32", code="E362")
    # Before a byte of memory is taken: the header may state any shape.
    if expected > size:
        raise VectorError(f"{name} is cut off: {shape} of {dtype} do not fit in {size} bytes", HINT, code="E360")
    content = stream.read(expected)
    if len(content) != expected:
        raise VectorError(f"{name} is cut off after {len(content)} of {expected} bytes", HINT, code="E360")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if columns_first else "C")
    return np.ascontiguousarray(array.astype(dtype.newbyteorder("="), copy=False)).reshape(shape)


def _length(stream: io.BufferedReader) -> int:
    length = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return length
