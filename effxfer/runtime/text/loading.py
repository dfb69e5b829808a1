"""Open a checked tokenizer with the library `tokenizers`, and encode without special tokens, truncation or padding."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.template import Template, read_template
from effxfer.runtime.text.tokenizer_file import INSTRUCTION, added_tokens, read_document, vocabulary

CHUNK = 1024
OPENED = 4
MASKS = ("[MASK]", "<mask>")  # names of the mask: of BERT and its like, and of RoBERTa and its like


@dataclass(frozen=True, eq=False)
class LoadedTokenizer:
    """A tokenizer that is ready to encode.

    Attributes:
        library: The library's object.
        template: Special tokens around texts.
        tokens: Ids by token, with the added ones.
        special: Special tokens by text: id, and whether one takes the blanks before and behind it.
        unknown: Id for what the vocabulary lacks; None without one.
        byte_level: Tokens are made of bytes, and a blank belongs to the word behind it.
    """

    library: Any
    template: Template
    tokens: Mapping[str, int]
    special: Mapping[str, tuple[int, bool, bool]]
    unknown: int | None
    byte_level: bool

    @property
    def largest_id(self) -> int:
        """The largest id that a row can hold."""
        return max(*self.tokens.values(), *self.template.ids, 0)

    @property
    def mask(self) -> int | None:
        """Id of the token that hides another one; None without one."""
        return next((self.special[name][0] for name in MASKS if name in self.special), None)

    @property
    def reserved(self) -> frozenset[int]:
        """Ids that no text may yield: special tokens, except the unknown one."""
        return frozenset({i for i, _, _ in self.special.values()} | self.template.ids) - {self.unknown or -1}

    def encode(self, texts: "Sequence[str] | Sequence[list[str]]", *, words: bool = False) -> Iterator[Any]:
        """Encode texts, or lists of words; yield the library's encodings.

        Raises:
            TextError: `E350` if a text holds a lone surrogate, or a character that the tokenizer has no token for.
        """
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            with _named_failures(chunk):
                encodings = self.library.encode_batch(chunk, is_pretokenized=words, add_special_tokens=False)
            yield from encodings


@lru_cache(maxsize=OPENED)
def load_tokenizer(content: bytes) -> LoadedTokenizer:
    """Check and open the content of a `tokenizer.json`.

    Raises:
        TextError: `E440` without the package `tokenizers`, `E441` if it is damaged, `E445` if a part is not accepted.
    """
    document = read_document(content)
    library = _open({**document, "post_processor": None})
    try:
        template = read_template(document["post_processor"])
    except (ValueError, KeyError) as error:
        raise TextError(f"tokenizer.json is not accepted: it has {error}", INSTRUCTION, code="E445") from None
    tokens = vocabulary(document)
    special = {t["content"]: (t["id"], t["lstrip"], t["rstrip"]) for t in added_tokens(document) if t["special"]}
    return LoadedTokenizer(
        library, template, tokens, special, _unknown_id(document["model"], tokens), _byte_level(document)
    )


def _open(document: Mapping[str, Any]) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        text, hint = "texts need the package tokenizers", "pip install --no-deps tokenizers"
        raise TextError(text, hint, code="E440") from None
    try:
        with _panics_as_errors():
            library = Tokenizer.from_str(json.dumps(document, allow_nan=False))
    except Exception as error:  # the library raises Exception itself
        raise TextError(f"tokenizer.json is damaged: {error}", INSTRUCTION, code="E441") from None
    library.encode_special_tokens = True
    return library


def _unknown_id(model: Mapping[str, Any], tokens: Mapping[str, int]) -> int | None:
    if model["type"] == "Unigram":
        number: int | None = model.get("unk_id")
        return number
    return tokens.get(model.get("unk_token") or "")


def _byte_level(document: Mapping[str, Any]) -> bool:
    """Whether blanks become part of the next word, unless the pre-tokenizer itself puts one before every word."""
    part = document["pre_tokenizer"] or {}
    parts = part.get("pretokenizers", [part])
    return any(p.get("type") == "ByteLevel" and not p.get("add_prefix_space", True) for p in parts)


@contextmanager
def _panics_as_errors() -> Iterator[None]:
    """Turn a panic of the library, which is no `Exception`, into a `ValueError`."""
    try:
        yield
    except BaseException as error:  # pyo3 gives PanicException no public home, and no Exception as base
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(str(error)) from None


@contextmanager
def _named_failures(chunk: "Sequence[str] | Sequence[list[str]]") -> Iterator[None]:
    try:
        with _panics_as_errors():
            yield
    except Exception as error:  # the library raises Exception itself, and TypeError for lone surrogates
        if any(_is_broken(text) for text in chunk):
            text, hint = "a text holds half of a character (a lone surrogate)", "decode it again from its bytes"
            raise TextError(text, hint, code="E350") from None
        raise TextError(f"the tokenizer cannot encode a text: {error}", INSTRUCTION, code="E350") from None


def _is_broken(text: str | list[str]) -> bool:
    try:
        "".join(text).encode()
    except UnicodeEncodeError:
        return True
    return False
