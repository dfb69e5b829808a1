"""Read the vectors of some words from a file of word vectors: GloVe's or word2vec's text, or arrays.

GloVe: Pennington et al., 2014, https://aclanthology.org/D14-1162.

Shape legend: C classes, E numbers of each word.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.class_tables.class_table import ClassTable, join_names
from effxfer.runtime.class_tables.class_table_error import ClassTableError
from effxfer.runtime.reading import open_regular
from effxfer.runtime.vectors.array_file import read_arrays
from effxfer.runtime.vectors.vector_error import VectorError

WORDS, VECTORS = "words", "vectors"
ARRAYS = ".npz"
FORM = "write a word and its numbers in each line, with blanks between, as GloVe does; or save arrays words and vectors"
WORD = re.compile(r"[^\W_]+")
# Chosen: a line of 4,096 numbers; a file without line ends would fill the memory.
LONGEST_LINE = 100_000
Vector = NDArray[np.float32]


def embed_names(names: Sequence[str], file: Path) -> ClassTable:
    """Look up the words of class names; a name of several words has the mean of their vectors.

    Words are what stands between blanks, `_`, `-`, `+` and other signs. A word is looked up as it is, then in lower
    case.

    Args:
        names: C names.
        file: Text of a word and its numbers in each line, of any size; or `.npz` with arrays `words` `(W,)` and
            `vectors` `(W, E)`.

    Returns:
        A row of E numbers for each name.

    Raises:
        ClassTableError: `E370` if the file cannot be read, `E371` with the words that it does not hold, `E373` if one
            of their vectors has another length or a number that is none.
    """
    words_of = {name: WORD.findall(name) for name in names}
    if unnamed := [name for name, words in words_of.items() if not words]:
        raise ClassTableError(f"{join_names(unnamed)} holds no word", "name the class by a word", code="E371")
    forms = {form for words in words_of.values() for word in words for form in (word, word.lower())}
    vectors = _read_arrays(file, forms) if file.suffix.lower() == ARRAYS else _read_lines(file, forms)
    absent = sorted({w for words in words_of.values() for w in words if not {w, w.lower()} & vectors.keys()})
    if absent:
        hint = "rename the class, or write its row into a .csv file of classes"
        raise ClassTableError(f"{file} has no vector of {join_names(absent)}", hint, code="E371")
    rows = [np.mean([_lookup(vectors, word) for word in words_of[name]], 0) for name in names]
    return ClassTable(names=tuple(names), values=np.stack(rows).astype(np.float32))


def _lookup(vectors: dict[str, Vector], word: str) -> Vector:
    return vectors[word] if word in vectors else vectors[word.lower()]


def _read_lines(file: Path, words: Collection[str]) -> dict[str, Vector]:
    """Read the lines of some words; the first line of a word counts."""
    vectors, width = dict[str, Vector](), 0
    try:
        with open_regular(file) as stream:
            number = 0
            while line := stream.readline(LONGEST_LINE):
                number += 1
                word, _, numbers = line.partition(b" ")
                key = word.decode("utf-8", "replace")
                # word2vec's first line: how many words there are, and how many numbers.
                if number == 1 and len(line.split()) == 2:
                    continue
                if key in words and key not in vectors:
                    vectors[key] = _parse(numbers, width, f"line {number} of {file}")
                    width = len(vectors[key])
    except OSError as error:
        text = f"{file} cannot be read: {error.strerror}"
        raise ClassTableError(text, "name a file of word vectors", code="E370") from None
    if not vectors:
        raise ClassTableError(f"{file} has no vector of {join_names(sorted(words))}", FORM, code="E371")
    return vectors


def _parse(text: bytes, width: int, place: str) -> Vector:
    try:
        vector = np.array([float(number) for number in text.split()], np.float64)
    except ValueError:
        vector = np.empty(0)
    # float32 must hold it: NaN fails the comparison as well.
    if not len(vector) or (width and len(vector) != width) or not (np.abs(vector) <= np.finfo(np.float32).max).all():
        raise ClassTableError(f"{place} is no word with {width or 'its'} finite numbers", FORM, code="E373")
    return vector.astype(np.float32)


def _read_arrays(file: Path, words: Collection[str]) -> dict[str, Vector]:
    try:
        arrays = read_arrays(file, (WORDS, VECTORS))
    except VectorError as error:
        raise ClassTableError(error.problem, error.hint, code="E370") from None
    if not {WORDS, VECTORS} <= arrays.keys():
        raise ClassTableError(f"{file} has no arrays {WORDS!r} and {VECTORS!r}", FORM, code="E370")
    names, values = arrays[WORDS], arrays[VECTORS]
    if names.dtype.kind != "U" or values.dtype.kind not in "fiu" or values.ndim != 2 or names.shape != values.shape[:1]:
        text = f"{file} has {WORDS} {names.dtype} {names.shape} and {VECTORS} {values.dtype} {values.shape}"
        raise ClassTableError(text, FORM, code="E373")
    row_of = {word: row for row, word in reversed([*enumerate(names.tolist())]) if word in words}
    vectors = {word: values[row].astype(np.float32) for word, row in row_of.items()}
    if bad := [word for word, vector in vectors.items() if not np.isfinite(vector).all()]:
        raise ClassTableError(f"{file} has NaN or infinity for {join_names(bad)}", "leave it out", code="E373")
    return vectors
