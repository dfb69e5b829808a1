"""Entities in sequences of tags: BIO, and the longer schemes with marks of their ends.

A tag is `O`, or a mark, a hyphen and a type. An entity begins with B, S or U, with another mark behind `O` or behind
another type, and at the beginning of a text. It ends before the next one, with E, L, S or U, and at the end of a text.
These are the rules of CoNLL's own script (Tjong Kim Sang & Buchholz, 2000, https://aclanthology.org/W00-0726).

Shape legend: M words of all texts, end to end.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

OUTSIDE = "O"
TAG = re.compile(r"([BIESLUM])-(.+)", re.DOTALL)
BEGINNING, ENDING = "BSU", "ESLU"


class Entities(NamedTuple):
    """Entities among words.

    Attributes:
        first: First word of each, int64 `(K,)`, ascending.
        last: Its last word, int64 `(K,)`.
        types: Its type, an index into `TagScheme.types`, int64 `(K,)`.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    types: NDArray[np.int64]


@dataclass(frozen=True)
class TagScheme:
    """The marks and types of tags.

    Attributes:
        types: Names of the types, sorted.
        type_of: Type of each tag, -1 of `O`, int64 `(T,)`.
        begins: Whether a tag begins an entity whatever stands before it, `(T,)`.
        ends: Whether a tag ends one whatever follows, `(T,)`.
    """

    types: tuple[str, ...]
    type_of: NDArray[np.int64]
    begins: NDArray[np.bool_]
    ends: NDArray[np.bool_]

    def find(self, tags: NDArray[np.int64], texts: NDArray[np.int64]) -> Entities:
        """Return the entities of words.

        Args:
            tags: Tag of each word, an index, `(M,)`; -1 is outside.
            texts: Text of each word, `(M,)`; words of a text are successive.
        """
        types = np.append(self.type_of, -1)[tags]
        apart = np.concatenate([[True], (types[1:] != types[:-1]) | (texts[1:] != texts[:-1])])[: len(tags)]
        behind_end = np.concatenate([[False], np.append(self.ends, False)[tags[:-1]]])[: len(tags)]
        first = (types >= 0) & (apart | behind_end | np.append(self.begins, False)[tags])
        # The next word begins an entity, or is of another type, or of another text.
        last = (types >= 0) & np.append(first[1:] | apart[1:], True)[: len(tags)]
        starts = np.flatnonzero(first)
        return Entities(starts, np.flatnonzero(last), types[starts])


def read_scheme(tags: Sequence[str]) -> TagScheme | None:
    """Return the scheme of a set of tags; None if they mark no entities, such as parts of speech.

    >>> read_scheme(("B-PER", "I-PER", "O")).types, read_scheme(("NOUN", "O"))
    (('PER',), None)
    """
    matches = [TAG.fullmatch(tag) for tag in tags]
    if not any(matches) or any(match is None and tag != OUTSIDE for tag, match in zip(tags, matches, strict=True)):
        return None
    pairs = [(match[1], match[2]) if match else ("", "") for match in matches]
    types = tuple(sorted({name for _, name in pairs if name}))
    numbers = {name: number for number, name in enumerate(types)} | {"": -1}
    return TagScheme(
        types=types,
        type_of=np.array([numbers[name] for _, name in pairs], np.int64),
        begins=np.array([mark != "" and mark in BEGINNING for mark, _ in pairs]),
        ends=np.array([mark != "" and mark in ENDING for mark, _ in pairs]),
    )
