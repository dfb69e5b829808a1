"""Check the content of a `tokenizer.json` before the library `tokenizers` reads it: anybody may have written it.

The library trusts what it reads. Damaged parts end the process or raise errors that are no `Exception`; regular
expressions, replacements of replacements and long words can take time and memory without bound; BPE dropout makes
ids random. Only parts that are known, with known fields, are passed on.
"""

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from effxfer.runtime.text.charsmap import check_charsmap
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.fields import LONGEST_TOKEN, bounded_list, bounded_text, known_fields, plain_value, token_id
from effxfer.runtime.text.linear_regex import unsafe_reason
from effxfer.runtime.text.tokenizer_model import check_model

LARGEST_FILE = 64_000_000
MOST_PARTS, DEEPEST, LARGEST_GROWTH = 32, 8, 64
INSTRUCTION = "save it again with the tokenizers library, or take another tokenizer"

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
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_check_added(token) for token in bounded_list("added_tokens", raw.get("added_tokens") or [])],
        "normalizer": normalizer,
        "pre_tokenizer": _check_part("pre-tokenizer", raw.get("pre_tokenizer"), PRE_TOKENIZERS),
        "post_processor": _check_part("post-processor", raw.get("post_processor"), POST_PROCESSORS),
        "decoder": None,
        "model": check_model(raw["model"]),
    }
    _require_different_ids(document)
    return document


def _require_different_ids(document: Mapping[str, Any]) -> None:
    """Refuse two tokens of one id: the network could not tell them apart, and the library reads one of them back."""
    tokens = dict[int, str]()
    for token, number in vocabulary(document).items():
        if (first := tokens.setdefault(number, token)) != token:
            raise ValueError(f"the tokens {first!r:.60} and {token!r:.60} with one id, {number}")


def _check_part(role: str, raw: Any, table: Table, depth: int = 0) -> dict[str, Any] | None:
    """Check a part of a kind in `table`; a kind's fields are those of the table, absent ones keep their defaults."""
    if raw is None:
        return None
    kind = str(raw.get("type")) if isinstance(raw, dict) else "without a kind"
    if kind not in table or depth > DEEPEST:
        raise ValueError(f"a {role} {kind:.40}" if depth <= DEEPEST else f"a {role} nested too deeply")
    known_fields(f"{role} {kind}", raw, table[kind])
    if kind == "Precompiled" and not raw.get("precompiled_charsmap"):
        raise ValueError("a table of replacements that is empty")
    inner = {n: _check_parts(role, v, table, depth + 1) for n, v in raw.items() if n in LISTS}
    plain = {n: _check_field(n, v) for n, v in raw.items() if n not in LISTS and n not in OPEN}
    return {**raw, **plain, **inner}


def _check_parts(role: str, raw: Any, table: Table, depth: int) -> list[dict[str, Any]]:
    parts = [_check_part(role, part, table, depth) for part in bounded_list(role, raw, MOST_PARTS)]
    return [part for part in parts if part is not None]


def _check_field(name: str, value: Any) -> Any:
    """Check a value of a part that is no model: a pattern, a table of replacements, or a short plain value."""
    if name == "pattern":
        return _check_pattern(value)
    if name == "precompiled_charsmap":
        check_charsmap(bounded_text(name, value, LARGEST_FILE))
        return value
    return plain_value(name, value)


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
        return check_charsmap(normalizer["precompiled_charsmap"])
    return 2.0 if kind == "ByteLevel" else 1.0


def _check_added(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ValueError(f"the added token {raw!s:.60}")  # noqa: TRY004 (the file is wrong, not the caller)
    known_fields("token", raw, ADDED_TOKEN)
    if not bounded_text("content", raw.get("content"), LONGEST_TOKEN):
        raise ValueError("an added token without text")
    flags = {name: bool(raw.get(name, False)) for name in ADDED_TOKEN[2:]}
    return {"id": token_id("id", raw.get("id")), "content": raw["content"], **flags}
