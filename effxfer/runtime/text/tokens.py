"""Convert texts into the network's input: rows of token ids, padded to the longest of a batch.

Training, calibration, gates and deployment share this class, so they get the same ids. The network derives what it
needs beside the ids from them: positions that are `pad` are no text.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from effxfer.runtime.reading import TooLargeError, read_regular
from effxfer.runtime.rows import Ragged, Rows
from effxfer.runtime.text import fields
from effxfer.runtime.text.encodings import Collector, Encodings
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.loading import LoadedTokenizer, load_tokenizer
from effxfer.runtime.text.pattern import SINGLE, Pattern, field_names, read_pattern
from effxfer.runtime.text.sequences import Part, Sequencer
from effxfer.runtime.text.windows import windows

__all__ = ["Source", "TextError", "Tokens"]

Source = str | bytes | Path | tuple[str, str] | list[str]
TOKENIZER = "tokenizer.json"
LONGEST_TEXT = 4_000_000  # characters, or bytes of a file
EXAMPLE_LENGTH = 16


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Conversion of a text into the network's input; stored in every artifact and ONNX file.

    A user's text never yields a special token, whatever it says. Truncation and padding that the tokenizer's file asks
    for are ignored: a text is cut at `size`, and a batch is padded to its longest row.

    Attributes:
        tokenizer: Content of `tokenizer.json`, as the library `tokenizers` writes it; at most 64 MB.
        size: Most tokens of a row, with special tokens.
        pad: Id of the padding token, which no row holds.
        pattern: How fields become one sequence: `{text}`; `{text}{sep}{other}` for pairs, with what the tokenizer puts
            between two texts; or a text with special tokens such as `{text} It was [MASK].`
        stride: Tokens that two successive windows of a long text share; 0 cuts a long text at its end.

    Raises:
        TextError: `E218` if the pattern, the size or the stride leaves no room for a text.
    """

    kind: ClassVar[str] = "text"
    name: ClassVar[str] = "ids"
    unit: ClassVar[str] = "texts"
    free: ClassVar[Mapping[int, str]] = {0: "batch", 1: "length"}

    tokenizer: bytes = field(repr=False)
    size: int
    pad: int
    pattern: str = SINGLE
    stride: int = 0

    def __post_init__(self) -> None:
        names = field_names(self.pattern)
        if not 0 <= self.stride < max(1, self.size // len(names)) or self.size < 1 or self.pad < 0:
            text = f"a size of {self.size} tokens with a stride of {self.stride} and padding {self.pad}"
            raise TextError(text, "give a size of at least 1, and a stride below it", code="E218")

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content of `tokenizer.json`."""
        return hashlib.sha256(self.tokenizer).hexdigest()

    @property
    def loaded(self) -> LoadedTokenizer:
        """The tokenizer, opened once for each content.

        Raises:
            TextError: `E440` without the package `tokenizers`, `E441` or `E445` if the content is not accepted.
        """
        return load_tokenizer(self.tokenizer)

    @property
    def takes_pairs(self) -> bool:
        """Whether an example is a pair of texts."""
        return len(field_names(self.pattern)) == 2

    def with_size(self, size: int) -> "Tokens":
        """Return the same conversion for rows of at most `size` tokens."""
        return replace(self, size=size)

    def decode(self, source: Source) -> NDArray[np.int32]:
        """Convert one text into a row; of several windows, the first.

        Args:
            source: A text, a pair of texts, a list of words, a file or UTF-8 bytes of a text.

        Returns:
            int32 `(n,)`, with special tokens, without padding.

        Raises:
            TextError: `E350` or `E352` if it is not a text, or too long.
        """
        return self.encode([source]).rows.row(0)

    def encode(self, sources: Sequence[Source], *, spans: bool = False) -> Encodings:
        """Convert texts into rows, and count those that were cut.

        Args:
            sources: Texts, pairs, or lists of words; all of one form.
            spans: Also return the characters that each token of the last field stands for.

        Raises:
            TextError: `E350` or `E352` if one is not a text, or too long; `E218` if it does not fit the pattern.
        """
        pattern, words = self.compiled_pattern, bool(sources) and isinstance(sources[0], list)
        sequencer = Sequencer(self.loaded, pattern, self.pad)
        if words:
            encoded = sequencer.of_words([_words(source) for source in sources])
        else:
            encoded = sequencer.of_texts([self._fields(source) for source in sources], spans=spans)
        collector = Collector(spans=spans and not words, words=words)
        for group, parts in enumerate(encoded):
            lengths = tuple(sum(len(p.ids) for p in parts if p.field == name) for name in pattern.fields)
            collector.add(group, parts, pattern.fields, windows(lengths, self._room(parts), self.stride))
        return collector.result()

    def feed(self, rows: Rows) -> NDArray[np.int64]:
        """Pad rows to the longest of them: int64 `(B, length)`; an array of equal rows is returned as int64.

        Args:
            rows: `Ragged`, or an array `(B, length)`.
        """
        return (rows.pad(self.pad) if isinstance(rows, Ragged) else np.asarray(rows)).astype(np.int64)

    def example(self, batch: int = 2, seed: int | None = None, length: int | None = None) -> NDArray[np.int64]:
        """Return an input without padding, int64 `(batch, length)`, for tracing and timing.

        Args:
            batch: Rows.
            seed: Seed of random tokens; None repeats one token.
            length: Tokens of a row, with special tokens; None for 16, or `size` if it is smaller.

        Raises:
            TextError: `E445` if the tokenizer has only special tokens.
        """
        length = min(length or EXAMPLE_LENGTH, self.size)
        usable = np.array(sorted({*self.loaded.tokens.values()} - self.loaded.reserved - {self.pad}), np.int64)
        if not len(usable):
            raise TextError("the tokenizer has only special tokens", "take another tokenizer", code="E445")
        rng = np.random.default_rng(seed)
        drawn = np.zeros((batch, length), np.int64) if seed is None else rng.integers(len(usable), size=(batch, length))
        ids = usable[drawn]
        before, *behind_fields = self.compiled_pattern.special
        behind = [token for special in behind_fields for token in special]
        if len(before) + len(behind) < length:
            ids[:, : len(before)], ids[:, length - len(behind) :] = before, behind
        return ids

    def real(self, x: Any) -> Any:
        """Return where ids `(B, length)`, an array or a tensor, are no padding."""
        return x != self.pad

    def is_mask(self, x: Any) -> Any:
        """Return where ids `(B, length)`, an array or a tensor, are the mask of a pattern."""
        return x == self.loaded.mask

    def decode_key(self) -> Mapping[str, Any]:
        """Return the values that decoded texts depend on, as JSON values."""
        return {**self.to_json(), "stride": self.stride}

    def files(self) -> Mapping[str, bytes]:
        """Return the contents of the files that lie beside the model, by name."""
        return {TOKENIZER: self.tokenizer}

    def to_json(self) -> dict[str, Any]:
        """Convert into plain values, with the tokenizer's SHA-256; `stride` only if it is not 0."""
        plain = {"kind": self.kind, "size": self.size, "pad": self.pad, "pattern": self.pattern}
        return plain | {"tokenizer": self.digest} | ({"stride": self.stride} if self.stride else {})

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], tokenizer: bytes) -> "Tokens":
        """Read the values of `to_json`.

        Args:
            raw: The values.
            tokenizer: Content of the `tokenizer.json` that lies beside.

        Raises:
            ValueError: If a field is unknown, missing or out of its range.
            TextError: `E446` if it is the tokenizer of another model.
        """
        values = fields.tokens(raw)
        expected = values.pop("tokenizer")
        tokens = cls(tokenizer=tokenizer, **values)
        if tokens.digest != expected:
            text = f"{TOKENIZER} has the digest {tokens.digest[:12]}, the model was made with {expected[:12]}"
            raise TextError(text, f"put the {TOKENIZER} of the model beside it", code="E446")
        return tokens

    def require_fit(self, vocabulary: int) -> None:
        """Refuse a tokenizer for another vocabulary.

        Args:
            vocabulary: Rows of the network's table of embeddings.

        Raises:
            TextError: `E443` if the tokenizer has an id that the table lacks.
        """
        largest = max(self.loaded.largest_id, self.pad)
        if largest >= vocabulary:
            text = f"the tokenizer has ids up to {largest}, the network's vocabulary has {vocabulary} tokens"
            raise TextError(text, "take the tokenizer of these weights", code="E443")

    @cached_property
    def compiled_pattern(self) -> Pattern:
        """The pattern with the ids of its special tokens.

        Raises:
            TextError: `E218` if it does not suit the tokenizer.
        """
        return read_pattern(self.pattern, self.loaded)

    def _room(self, parts: Sequence[Part]) -> int:
        """Return the tokens of a row that fields may take."""
        room = self.size - sum(len(part.ids) for part in parts if not part.field)
        if room < len(self.compiled_pattern.fields):
            text = f"rows of {self.size} tokens have no room for a text in the pattern {self.pattern!r:.60}"
            raise TextError(text, "give a larger size", code="E218")
        return room

    def _fields(self, source: Source) -> dict[str, str]:
        """Return a source's texts by field."""
        texts = source if isinstance(source, tuple) else (read_text(source),)
        names = self.compiled_pattern.fields
        if len(texts) != len(names):
            # `predict` prints this sentence alone, without the hint.
            counted = "one text" if len(names) == 1 else "two texts (the second is `--pair`)"
            text = f"the pattern {self.pattern!r:.60} takes {counted}, not {len(texts)}"
            raise TextError(text, "give a pair for a pattern with {other}, and one text for others", code="E218")
        for text in texts:
            if not isinstance(text, str):
                problem = f"{type(text).__name__} among the texts of a pair"
                raise TextError(problem, "give two texts, such as a question and its context", code="E350")
            _require_length(len(text))
        return dict(zip(names, texts, strict=True))


def read_text(source: Source) -> str:
    """Return a text, or the text of a file or of UTF-8 bytes.

    Raises:
        TextError: `E350` or `E352` if it is not a text, or too long.
    """
    if isinstance(source, str):
        return source
    if not isinstance(source, bytes | Path):
        raise TextError(
            f"a {type(source).__name__} among texts", "give texts only, or lists of words only", code="E350"
        )
    try:
        data = source if isinstance(source, bytes) else read_regular(source, LONGEST_TEXT)
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(
            f"not UTF-8 text: {error.reason} at byte {error.start}", "save it as UTF-8", code="E350"
        ) from None
    except TooLargeError as error:
        raise TextError(f"{source!s}: {error.strerror}", "cut it into several texts", code="E352") from None
    except OSError as error:
        raise TextError(f"{source!s} cannot be read: {error.strerror}", "name a file of text", code="E350") from None


def _words(source: Source) -> list[str]:
    if not isinstance(source, list) or not all(isinstance(word, str) for word in source):
        raise TextError("a text among lists of words", "give texts only, or lists of words only", code="E350")
    _require_length(sum(map(len, source)))
    return source


def _require_length(length: int) -> None:
    if length > LONGEST_TEXT:
        text = f"a text of {length} characters, {LONGEST_TEXT} at most"
        raise TextError(text, "cut it into several texts", code="E352")
