"""Check the model of a `tokenizer.json`: vocabulary, merges, pieces and their scores."""

from collections.abc import Callable, Mapping
from typing import Any

from effxfer.runtime.text.fields import LONGEST_TOKEN, bounded_list, bounded_text, known_fields, plain_value, token_id

LARGEST_VOCABULARY = 2_000_000
LARGEST_SCORE = 1e30
# WordPiece looks at every part of a word: 1,000 words of 500 letters took 11 s. 100 is usual.
LONGEST_WORD = 200

MODELS = {
    "BPE": (
        "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
        "ignore_merges", "vocab", "merges",
    ),
    "Unigram": ("unk_id", "vocab", "byte_fallback"),
    "WordLevel": ("vocab", "unk_token"),
    "WordPiece": ("unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"),
}  # fmt: skip


def check_model(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Check a model: its kind, its vocabulary, and what decides about time, memory and chance.

    Raises:
        ValueError: If it is not accepted.
    """
    kind = str(raw.get("type") or _untyped_model(raw))
    if kind not in MODELS:
        raise ValueError(f"a model {kind:.40}")
    if "vocab" not in raw:
        raise ValueError(f"a model {kind} without a vocabulary")
    known_fields(f"model {kind}", raw, MODELS[kind])
    if raw.get("dropout"):
        raise ValueError("a dropout of merges, which makes ids random")
    if kind == "BPE":
        _check_prefix(raw.get("continuing_subword_prefix") or "", raw.get("merges"))
    checks: dict[str, Callable[[str, Any], Any]] = {
        "vocab": _check_pieces if kind == "Unigram" else _check_vocabulary,
        "merges": _check_merges,
        "max_input_chars_per_word": _check_word_length,
        "unk_id": lambda name, value: value if value is None else token_id(name, value),
    }
    return {"type": kind} | {
        n: checks.get(n, plain_value)(n, v) for n, v in raw.items() if n not in ("type", "dropout")
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
        token_id(bounded_text(name, token, LONGEST_TOKEN), number)
    return raw


def _check_pieces(name: str, raw: Any) -> Any:
    """Check the pieces of a unigram model with their scores."""
    for piece in bounded_list(name, raw):
        if not isinstance(piece, list) or len(piece) != 2 or type(piece[1]) not in (int, float):
            raise ValueError(f"the piece {piece!s:.60}")
        bounded_text(name, piece[0], LONGEST_TOKEN)
        if not abs(piece[1]) < LARGEST_SCORE:
            raise ValueError(f"the piece {piece[0]:.60} with a score of {LARGEST_SCORE:g} or more")
    if not raw:
        raise ValueError("an empty vocabulary")
    return raw


def _check_merges(name: str, raw: Any) -> Any:
    """Check merges: texts with one blank, or pairs of texts."""
    for merge in bounded_list(name, raw):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise ValueError(f"the merge {merge!s:.60}")
    return raw


def _check_prefix(prefix: Any, merges: Any) -> None:
    """Refuse merges whose second part lacks the prefix of parts within a word, which the library cuts off unseen."""
    seconds = (
        merge.partition(" ")[2] if isinstance(merge, str) else merge[1] for merge in _check_merges("merges", merges)
    )
    if not str(prefix).isascii() or not all(second.startswith(str(prefix)) for second in seconds):
        raise ValueError(f"merges without the prefix {prefix!s:.40}")


def _check_word_length(name: str, value: Any) -> int:
    if type(value) is not int or not 0 < value <= LONGEST_WORD:
        raise ValueError(f"{name} {value!s:.40}, not 1 to {LONGEST_WORD}")
    return value
