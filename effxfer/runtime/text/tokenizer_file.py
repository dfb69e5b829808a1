"""Check the content of a `tokenizer.json` before the library `tokenizers` reads it: anybody may have written it.

The library trusts what it reads. Damaged parts end the process or raise errors that are no `Exception`; regular
expressions, replacements of replacements and long words can take time and memory without bound; BPE dropout makes
ids random. Only parts that are known, with known fields, are passed on.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from effxfer.runtime.text.charsmap import check_charsmap
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.linear_regex import unsafe_reason

LARGEST_FILE = 64_000_000
LARGEST_VOCABULARY = 2_000_000
LARGEST_SCORE = 1e30
LONGEST_TOKEN = 1000
LONGEST_WORD = 200  # WordPiece looks at every part of a word: time grows with its square, or faster
MOST_PARTS, DEEPEST, LARGEST_GROWTH = 32, 8, 64
INSTRUCTION = "save it again with the tokenizers library, or take another tokenizer"
CONSTANTS = ("NaN", "Infinity", "-Infinity")

NORMALIZERS = {
    "BertNormalizer": ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"),
    "ByteLevel": ("add_prefix_space", "trim_offsets", "use_regex"), "Lowercase": (), "NFC": (), "NFD": (), "NFKC": (),
    "NFKD": (), "Nmt": (), "Precompiled": ("precompiled_charsmap",), "Prepend": ("prepend",),
    "Replace": ("pattern", "content"), "Sequence": ("normalizers",), "Strip": ("strip_left", "strip_right"),
    "StripAccents": (),
}  # fmt: skip
PRE_TOKENIZERS = {
    "BertPreTokenizer": (), "ByteLevel": ("add_prefix_space", "trim_offsets", "use_regex"),
    "CharDelimiterSplit": ("delimiter",), "Digits": ("individual_digits",),
    "Metaspace": ("replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"),
    "Punctuation": ("behavior",), "Sequence": ("pretokenizers",), "Split": ("pattern", "behavior", "invert"),
    "UnicodeScripts": (), "Whitespace": (), "WhitespaceSplit": (),
}  # fmt: skip
POST_PROCESSORS = {
    "BertProcessing": ("sep", "cls"), "ByteLevel": ("add_prefix_space", "trim_offsets", "use_regex"),
    "RobertaProcessing": ("sep", "cls", "trim_offsets", "add_prefix_space"), "Sequence": ("processors",),
    "TemplateProcessing": ("single", "pair", "special_tokens"),
}  # fmt: skip
MODELS = {
    "BPE": (
        "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
        "ignore_merges", "vocab", "merges",
    ),
    "Unigram": ("unk_id", "vocab", "byte_fallback"),
    "WordLevel": ("vocab", "unk_token"),
    "WordPiece": ("unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"),
}  # fmt: skip
ADDED_TOKEN = ("id", "content", "single_word", "lstrip", "rstrip", "normalized", "special")
LISTS = frozenset({"normalizers", "pretokenizers", "processors"})
OPEN = frozenset({"single", "pair", "special_tokens", "sep", "cls"})  # `read_template` checks them
Table = Mapping[str, Collection[str]]


def read_document(content: bytes) -> dict[str, Any]:
    """Parse and check a `tokenizer.json`; truncation, padding and the decoder are left out.

    Raises:
        TextError: `E441` if it is damaged or too large, `E445` if a part is unknown or could take for ever.
    """
    if len(content) > LARGEST_FILE:
        text = f"tokenizer.json has {len(content) / 1e6:.0f} MB, {LARGEST_FILE / 1e6:.0f} MB at most"
        raise TextError(text, INSTRUCTION, code="E441")
    try:
        raw = json.loads(content.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else f"no JSON: {error}"
        raise TextError(f"tokenizer.json is damaged: {reason}", INSTRUCTION, code="E441") from None
    try:
        return _check_document(raw)
    except (ValueError, RecursionError) as error:
        raise TextError(f"tokenizer.json is not accepted: it has {error}", INSTRUCTION, code="E445") from None


def added_tokens(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the added tokens of a document of `read_document`."""
    tokens: list[dict[str, Any]] = document["added_tokens"]
    return tokens


def vocabulary(document: Mapping[str, Any]) -> dict[str, int]:
    """Return the ids of all tokens by their text, with the added ones."""
    vocab = document["model"]["vocab"]
    ids = dict(vocab) if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}
    return ids | {token["content"]: token["id"] for token in added_tokens(document)}


def _refuse_constant(name: str) -> float:
    raise ValueError(f"the number {name}")


def _check_document(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict) or not isinstance(raw.get("model"), dict):
        raise ValueError("no model")  # noqa: TRY004 (the file is wrong, not the caller)
    normalizer = _check_part("normalizer", raw.get("normalizer"), NORMALIZERS)
    if (growth := _growth(normalizer)) > LARGEST_GROWTH:
        raise ValueError(f"replacements that lengthen a text {growth:.0f} times")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_check_added(token) for token in _list("added_tokens", raw.get("added_tokens") or [])],
        "normalizer": normalizer,
        "pre_tokenizer": _check_part("pre-tokenizer", raw.get("pre_tokenizer"), PRE_TOKENIZERS),
        "post_processor": _check_part("post-processor", raw.get("post_processor"), POST_PROCESSORS),
        "decoder": None,
        "model": _check_model(raw["model"]),
    }


def _check_part(role: str, raw: Any, table: Table, depth: int = 0) -> dict[str, Any] | None:
    """Check a part of a kind in `table`; a kind's fields are those of the table, absent ones keep their defaults."""
    if raw is None:
        return None
    kind = str(raw.get("type")) if isinstance(raw, dict) else "without a kind"
    if kind not in table or depth > DEEPEST:
        raise ValueError(f"a {role} {kind:.40}" if depth <= DEEPEST else f"a {role} nested too deeply")
    _check_fields(f"{role} {kind}", raw, table[kind])
    inner = {n: _check_parts(role, v, table, depth + 1) for n, v in raw.items() if n in LISTS}
    plain = {n: _check_field(n, v) for n, v in raw.items() if n not in LISTS and n not in OPEN}
    return {**raw, **plain, **inner}


def _check_parts(role: str, raw: Any, table: Table, depth: int) -> list[dict[str, Any]]:
    parts = [_check_part(role, part, table, depth) for part in _list(role, raw, MOST_PARTS)]
    return [part for part in parts if part is not None]


def _check_fields(role: str, raw: Mapping[str, Any], names: Collection[str]) -> None:
    unknown = [name for name in raw if name not in names and name != "type"]
    if unknown:
        raise ValueError(f"a {role} with the unknown field {unknown[0]:.40}")


def _check_field(name: str, value: Any) -> Any:
    """Check a value of a part that is no model: a pattern, a table of replacements, or a short plain value."""
    if name == "pattern":
        return _check_pattern(value)
    if name == "precompiled_charsmap":
        check_charsmap(_text(name, value, LARGEST_FILE))
        return value
    if value is None or type(value) is bool:
        return value
    return _text(name, value, LONGEST_TOKEN)


def _check_pattern(raw: Any) -> Any:
    kind, value = next(iter(raw.items())) if isinstance(raw, dict) and len(raw) == 1 else ("", "")
    if kind not in ("String", "Regex") or not isinstance(value, str) or not 0 < len(value) <= LONGEST_TOKEN:
        raise ValueError(f"the pattern {raw!s:.60}")
    if kind == "Regex" and (reason := unsafe_reason(value)):
        raise ValueError(f"the regular expression {value:.60}, which may take for ever: {reason}")
    return raw


def _growth(normalizer: Mapping[str, Any] | None) -> float:
    """Return how often a text may become longer by replacements of replacements."""
    if normalizer is None:
        return 1.0
    kind = normalizer["type"]
    if kind == "Sequence":
        return math.prod(_growth(part) for part in normalizer.get("normalizers", ()))
    if kind == "Replace":
        pattern = normalizer.get("pattern", {})
        return max(1.0, len(normalizer.get("content") or "") / len(pattern.get("String", "x")))
    if kind == "Precompiled":
        return check_charsmap(normalizer["precompiled_charsmap"]) if normalizer.get("precompiled_charsmap") else 1
    return 2.0 if kind == "ByteLevel" else 1.0


def _check_added(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ValueError(f"the added token {raw!s:.60}")  # noqa: TRY004 (the file is wrong, not the caller)
    _check_fields("token", raw, ADDED_TOKEN)
    if not _text("content", raw.get("content"), LONGEST_TOKEN):
        raise ValueError("an added token without text")
    flags = {name: bool(raw.get(name, False)) for name in ADDED_TOKEN[2:]}
    return {"id": _id("id", raw.get("id")), "content": raw["content"], **flags}


def _check_model(raw: Mapping[str, Any]) -> dict[str, Any]:
    kind = raw.get("type") or _untyped_model(raw)
    if kind not in MODELS:
        raise ValueError(f"a model {kind!s:.40}")
    _check_fields(f"model {kind}", raw, MODELS[kind])
    if raw.get("dropout"):
        raise ValueError("a dropout of merges, which makes ids random")
    checks: dict[str, Callable[[str, Any], Any]] = {
        "vocab": _check_pieces if kind == "Unigram" else _check_vocabulary,
        "merges": _check_merges,
        "max_input_chars_per_word": _check_word_length,
        "unk_id": lambda name, value: value if value is None else _id(name, value),
    }
    return {"type": kind} | {
        n: checks.get(n, _check_field)(n, v) for n, v in raw.items() if n not in ("type", "dropout")
    }


def _untyped_model(raw: Mapping[str, Any]) -> str:
    """Return the kind of a model that does not state it, as early releases of the library wrote them."""
    if "merges" in raw:
        return "BPE"
    return "Unigram" if "unk_id" in raw else "WordPiece" if "max_input_chars_per_word" in raw else "WordLevel"


def _check_vocabulary(name: str, raw: Any) -> Any:
    if not isinstance(raw, dict) or not 0 < len(raw) <= LARGEST_VOCABULARY:
        raise ValueError(f"no vocabulary of 1 to {LARGEST_VOCABULARY} tokens")
    for token, number in raw.items():
        _id(_text(name, token, LONGEST_TOKEN), number)
    return raw


def _check_pieces(name: str, raw: Any) -> Any:
    """Check the pieces of a unigram model with their scores."""
    for piece in _list(name, raw):
        if not isinstance(piece, list) or len(piece) != 2 or type(piece[1]) not in (int, float):
            raise ValueError(f"the piece {piece!s:.60}")
        _text(name, piece[0], LONGEST_TOKEN)
        if not abs(piece[1]) < LARGEST_SCORE:
            raise ValueError(f"the piece {piece[0]:.60} with a score of {LARGEST_SCORE:g} or more")
    if not raw:
        raise ValueError("an empty vocabulary")
    return raw


def _check_merges(name: str, raw: Any) -> Any:
    """Check merges: texts with one blank, or pairs of texts."""
    for merge in _list(name, raw):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise ValueError(f"the merge {merge!s:.60}")
    return raw


def _check_word_length(name: str, value: Any) -> int:
    if type(value) is not int or not 0 < value <= LONGEST_WORD:
        raise ValueError(f"{name} {value!s:.40}, not 1 to {LONGEST_WORD}")
    return value


def _list(name: str, raw: Any, limit: int = LARGEST_VOCABULARY) -> list[Any]:
    if not isinstance(raw, list) or len(raw) > limit:
        raise ValueError(f"{name} that are no list of at most {limit}")
    return raw


def _text(name: str, value: Any, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{name} {value!s:.40}, no text of at most {longest} characters")
    return value


def _id(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"the id {value!s:.40} of {name:.40}")
    return value
