"""Tokenize the texts of a data set once, into memory-mapped arrays of the cache."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from effxfer.data.decoded.cache import Entry, open_or_build
from effxfer.data.decoded.store import Store
from effxfer.data.listing import SPLITS, UNLABELLED, Text
from effxfer.data.texts.examples import Example, exact_bytes, text_of
from effxfer.errors import DataError
from effxfer.files import digest
from effxfer.runtime.rows import Ragged
from effxfer.runtime.text.encodings import Encodings
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.tokens import Source, Tokens

LAYOUT = 1  # entries of another layout are made anew
FOLDER = "tokens"
USED = (*SPLITS, UNLABELLED)
CHUNK = 1000
ID_BYTES, PLACE_BYTES, ROW_BYTES = 4, 8, 16


@dataclass(frozen=True)
class TokenPlan:
    """Plan for tokenizing texts into arrays.

    Attributes:
        examples: The texts, with their splits.
        tokens: How a text becomes a row.
        spans: Also keep the characters that each token stands for.
        progress: Called with the number of tokenized texts and of all texts.
    """

    examples: Sequence[Example]
    tokens: Tokens
    spans: bool = False
    progress: Callable[[int, int], None] | None = None

    def key(self) -> str:
        """Digest everything that the arrays depend on."""
        content = hashlib.sha256()
        for split, sources in self._sources.items():
            content.update(f"{split} {len(sources)}\n".encode())
            for source in sources:
                content.update(exact_bytes(source))
        # With the library's version: another one may tokenize in another way.
        return digest(
            [LAYOUT, _library_version(), content.hexdigest(), self.tokens.decode_key(), self.spans], length=24
        )

    def bytes_needed(self) -> int:
        """Return an estimate of the arrays' size on disk, from above for usual texts."""
        width = ID_BYTES + (PLACE_BYTES if self.spans or self._has_words else 0)
        lengths = (len(text_of(example).encode("utf-8", "surrogatepass")) for example in self.examples)
        # A token has a character or more; windows repeat less than half of a text.
        limit = self.tokens.size if not self.tokens.stride else 2**40
        return sum(width * min(2 * length + self.tokens.size, limit) + ROW_BYTES for length in lengths)

    def build(self, store: Store) -> dict[str, Any]:
        """Tokenize into the arrays of a store.

        Returns:
            `cut`: by split, the number of texts that lost tokens.

        Raises:
            DataError: If a text cannot be tokenized, with its name.
        """
        cut, count = {}, 0
        for split, sources in self._sources.items():
            names = [example.name for example in self.examples if example.split == split]
            chunks = list[Encodings]()
            for start in range(0, len(sources), CHUNK):
                chunks.append(self._encode(sources[start : start + CHUNK], names[start : start + CHUNK]))
                count += len(sources[start : start + CHUNK])
                if self.progress:
                    self.progress(count, len(self.examples))
            for name, values in _join(chunks, self.spans, self._has_words).items():
                store.create(f"{split}_{name}", values.shape, str(values.dtype))[...] = values
            cut[split] = sum(chunk.cut for chunk in chunks)
        return {"cut": cut}

    def fits(self, entry: Entry) -> bool:
        """Whether an entry has the arrays of these texts."""
        return entry.facts["cut"].keys() == self._sources.keys() and all(
            self._fits_split(entry.arrays, split, len(sources)) for split, sources in self._sources.items()
        )

    def _fits_split(self, arrays: Mapping[str, Any], split: str, count: int) -> bool:
        ids, ends, groups = (arrays[f"{split}_{name}"] for name in ("ids", "ends", "groups"))
        extra = [arrays[f"{split}_{name}"] for name in _extra_names(self.spans, self._has_words)]
        total = int(ends[-1]) if len(ends) else 0
        texts = int(groups[-1]) + 1 if len(groups) else 0
        return texts == count and len(ends) == len(groups) and all(len(array) == total for array in (ids, *extra))

    @cached_property
    def _sources(self) -> dict[str, list[Text]]:
        """The texts of each split that has some.

        Raises:
            ValueError: If a text has no split.
        """
        unassigned = [e.name for e in self.examples if e.split not in USED]
        if unassigned:
            raise ValueError(f"{unassigned[0]} has no split")
        sources = {split: [e.source for e in self.examples if e.split == split] for split in USED}
        return {split: texts for split, texts in sources.items() if texts}

    @cached_property
    def _has_words(self) -> bool:
        return bool(self.examples) and isinstance(self.examples[0].source, list)

    def _encode(self, sources: Sequence[Source], names: Sequence[str]) -> Encodings:
        try:
            return self.tokens.encode(sources, spans=self.spans)
        except TextError as error:
            raise self._named_error(sources, names) or _data_error(error, names[0]) from None

    def _named_error(self, sources: Sequence[Source], names: Sequence[str]) -> DataError | None:
        """Return the error of the first text that cannot be tokenized."""
        for source, name in zip(sources, names, strict=True):
            try:
                self.tokens.encode([source], spans=self.spans)
            except TextError as error:
                return _data_error(error, name)
        return None


def tokenize(plan: TokenPlan, cache: Path) -> dict[str, Encodings]:
    """Tokenize texts, or map the result of an earlier time from the cache.

    Args:
        plan: The texts and how they become rows.
        cache: Folder of the cache.

    Returns:
        Rows by split, memory-mapped; a split without texts is absent.

    Raises:
        DataError: If a text cannot be tokenized, with its name.
        ResourceError: If no place has room for the arrays.
    """
    entry = open_or_build(cache / FOLDER / plan.key(), plan.bytes_needed(), plan.build, plan.fits)
    return {split: _encodings(entry, split) for split in entry.facts["cut"]}


def _encodings(entry: Entry, split: str) -> Encodings:
    arrays = {name: entry.arrays.get(f"{split}_{name}") for name in ("ids", "ends", "groups", "spans", "words")}
    ids, ends, groups = (np.asarray(arrays[name]) for name in ("ids", "ends", "groups"))
    return Encodings(Ragged(ids, ends), groups, entry.facts["cut"][split], arrays["spans"], arrays["words"])


def _join(chunks: Sequence[Encodings], spans: bool, words: bool) -> dict[str, Any]:
    """Return the arrays of all chunks, end to end."""
    totals = np.cumsum([0, *(len(chunk.rows.values) for chunk in chunks)])
    texts = np.cumsum([0, *(int(chunk.groups[-1]) + 1 for chunk in chunks)])
    arrays = {
        "ids": [chunk.rows.values for chunk in chunks],
        "ends": [chunk.rows.ends + total for chunk, total in zip(chunks, totals, strict=False)],
        "groups": [chunk.groups + count for chunk, count in zip(chunks, texts, strict=False)],
    }
    arrays |= {name: [getattr(chunk, name) for chunk in chunks] for name in _extra_names(spans, words)}
    return {name: np.concatenate(parts) for name, parts in arrays.items()}


def _extra_names(spans: bool, words: bool) -> Iterable[str]:
    return ["words"] if words else ["spans"] if spans else []


def _library_version() -> str:
    try:
        return version("tokenizers")
    except PackageNotFoundError:
        return ""


def _data_error(error: TextError, name: str) -> DataError:
    return DataError(f"{name}: {error.problem}", error.hint, code=error.code)
