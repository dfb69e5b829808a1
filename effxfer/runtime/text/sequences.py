"""Put encoded chunks and special tokens together into rows, with the place of each token in the text."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.loading import LoadedTokenizer
from effxfer.runtime.text.pattern import Chunk, Pattern
from effxfer.runtime.text.template import Ids

NOWHERE = (-1, -1)
Span = tuple[int, int]


class Part(NamedTuple):
    """Successive tokens of a sequence that belong together.

    Attributes:
        field: Name of the field; empty for special tokens and the pattern's own words.
        ids: One for each token.
        spans: Characters of the field that each token stands for, first and last + 1; empty if they are not needed.
        words: Number of the word that each token begins, -1 where it continues one; empty without words.
    """

    field: str
    ids: Sequence[int]
    spans: Sequence[Span] = ()
    words: Sequence[int] = ()


class Sequencer:
    """Encodes sources with one tokenizer and one pattern.

    Args:
        tokenizer: The tokenizer.
        pattern: The pattern, for this tokenizer.
        pad: Id of the padding token, which no text may yield.
    """

    def __init__(self, tokenizer: LoadedTokenizer, pattern: Pattern, pad: int) -> None:
        self._tokenizer, self._pattern, self._reserved = tokenizer, pattern, tokenizer.reserved | {pad}

    @property
    def special_count(self) -> int:
        """Special tokens of every row."""
        return sum(map(len, self._pattern.special))

    def of_texts(self, sources: Sequence[Mapping[str, str]], *, spans: bool) -> Iterator[list[Part]]:
        """Yield the parts of each source.

        Args:
            sources: Text by field.
            spans: Also return where each token stands.

        Raises:
            TextError: `E350` if a text cannot be encoded.
        """
        texts = [chunk.fill(source) for source in sources for chunk in self._pattern.chunks]
        encodings = self._tokenizer.encode(texts)
        for source in sources:
            chunks = ((chunk, next(encodings)) for chunk in self._pattern.chunks)
            parts = [self._split(chunk, encoding, source, spans) for chunk, encoding in chunks]
            yield self._join(parts)

    def of_words(self, sources: Sequence[Sequence[str]]) -> Iterator[list[Part]]:
        """Yield the parts of each list of words; a word without a token of its own gets the unknown one.

        Raises:
            TextError: `E218` if the pattern has words of its own, `E350` if a word cannot be encoded.
        """
        if not self._pattern.is_single:
            raise TextError("a pattern cannot be filled with a list of words", 'use the pattern "{text}"', code="E218")
        blank = " " if self._tokenizer.byte_level else ""
        texts = [[word if not i else blank + word for i, word in enumerate(words)] for words in sources]
        for words, encoding in zip(sources, self._tokenizer.encode(texts, words=True), strict=True):
            yield self._join([[self._pieces(encoding.ids, encoding.word_ids, len(words))]])

    def _pieces(self, ids: Sequence[int], numbers: Sequence[int], count: int) -> Part:
        """Return the tokens of words, with the number of each word at its first token."""
        tokens, firsts, following = list[int](), list[int](), 0
        for token, number in zip(self._replace_reserved(ids), numbers, strict=True):
            for missing in range(following, number):
                self._append_unknown(tokens, firsts, missing)
            firsts.append(number if number >= following else -1)
            tokens.append(token)
            following = max(following, number + 1)
        for missing in range(following, count):
            self._append_unknown(tokens, firsts, missing)
        return Part("text", tokens, (), firsts)

    def _append_unknown(self, ids: list[int], firsts: list[int], number: int) -> None:
        if self._tokenizer.unknown is None:
            raise TextError("a word has no token", "remove words of invisible characters", code="E350")
        ids.append(self._tokenizer.unknown)
        firsts.append(number)

    def _join(self, chunks: Sequence[list[Part]]) -> list[Part]:
        """Put special tokens before, between and behind the chunks."""
        special = self._pattern.special
        parts = [Part("", special[0])]
        for chunk, ids in zip(chunks, special[1:], strict=True):
            parts += [*chunk, Part("", ids)]
        if not any(part.ids for part in parts):
            return [Part("text", self._unknown_ids(), [(0, 0)], [-1])]
        return parts

    def _unknown_ids(self) -> Ids:
        if self._tokenizer.unknown is None:
            raise TextError("a text has no token", "remove empty texts", code="E350")
        return (self._tokenizer.unknown,)

    def _split(self, chunk: Chunk, encoding: Any, source: Mapping[str, str], spans: bool) -> list[Part]:
        """Split the tokens of a chunk into those of its fields and those of the pattern's own words."""
        ids = self._replace_reserved(encoding.ids)
        if len(chunk.pieces) == 1:
            return [Part(chunk.names[0], ids, encoding.offsets if spans else ())]
        offsets, parts = encoding.offsets, list[Part]()
        start, first = 0, 0
        for piece, name in zip(chunk.pieces, chunk.names, strict=True):
            end = start + len(source[name] if name else piece)
            last = next((i for i in range(first, len(ids)) if offsets[i][0] >= end), len(ids))
            places = [(max(a - start, 0), min(b, end) - start) for a, b in offsets[first:last]] if spans else ()
            parts.append(Part(name, ids[first:last], places))
            start, first = end, last
        return parts

    def _replace_reserved(self, ids: Sequence[int]) -> Sequence[int]:
        """Replace special tokens that a user's text forges; some pre-tokenizers leave them whole."""
        reserved, unknown = self._reserved, self._tokenizer.unknown
        if reserved.isdisjoint(ids):
            return ids
        if unknown is None:
            raise TextError("a text holds a special token", "remove it from the text", code="E350")
        return [unknown if token in reserved else token for token in ids]
