"""Remove tokens from a `tokenizer.json`, so that texts of the remaining tokens are encoded as before.

What any text may be made of stays: special tokens, single characters (with the prefix or suffix of parts of words), and
bytes. Each model then finds the same tokens as before in a text whose tokens all stay:

* WordPiece takes the longest token at every place. Fewer tokens offer no longer one.
* BPE merges in the order of its merges. The parts of a token that stays, and their parts, stay too, so that every merge
  that led to it is there.
* Unigram takes the most probable pieces. The piece with the lowest score stays, on which the price of an unknown
  character depends.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.errors import ModelFileError
from effxfer.runtime.text.tokenizer_file import read_document, vocabulary

Document = dict[str, Any]


@dataclass(frozen=True, eq=False)
class PrunedTokenizer:
    """A tokenizer with fewer tokens.

    Attributes:
        content: Its `tokenizer.json`.
        ids: The former id of each token, int64 `(tokens,)`.
    """

    content: bytes
    ids: NDArray[np.int64]

    def new_id(self, former: int) -> int:
        """Return the id of a token by its former one.

        Raises:
            KeyError: If it was removed.
        """
        places = np.flatnonzero(self.ids == former)
        if not len(places):
            raise KeyError(former)
        return int(places[0])


def model_kind(content: bytes) -> str:
    """Return the kind of a tokenizer's model.

    Raises:
        ModelFileError: `E447` if tokens cannot be removed from this kind.
        TextError: If the content is not accepted.
    """
    kind = str(read_document(content)["model"]["type"])
    if kind not in REQUIRED:
        text = f"a tokenizer of kind {kind} cannot write a text without the tokens that would be removed"
        raise ModelFileError(text, f"take a network whose tokenizer is of kind {', '.join(REQUIRED)}", code="E447")
    return kind


def prune_tokenizer(content: bytes, used: Collection[int]) -> PrunedTokenizer:
    """Remove all tokens but the used ones and those that any text may need.

    Args:
        content: A `tokenizer.json`.
        used: Ids that must stay.

    Raises:
        ModelFileError: `E447`, see `model_kind`.
        TextError: If the content is not accepted.
    """
    checked, document = read_document(content), json.loads(content.decode("utf-8-sig"))
    kind, tokens, required_ids = model_kind(content), vocabulary(checked), set(used)
    added = [token["content"] for token in checked["added_tokens"]]
    remaining = {token for token, number in tokens.items() if number in required_ids}
    remaining = {*remaining, *added, *REQUIRED[kind](checked["model"])}
    if kind == "BPE":
        remaining |= _merged_parts(checked["model"], remaining)
    model, former = _prune_model(checked["model"], remaining)
    # Behind those of the model, as the library numbers them.
    only_added = sorted({tokens[token] for token in added} - set(former))
    ids = {number: place for place, number in enumerate([*former, *only_added])}
    document |= {
        "truncation": None,
        "padding": None,
        "added_tokens": [{**t, "id": ids[tokens[t["content"]]]} for t in document.get("added_tokens") or []],
        "post_processor": _renumber(document.get("post_processor"), ids),
        "model": {**document["model"], **model},
    }
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return PrunedTokenizer(text.encode(), np.array([*ids], np.int64))


def _wordpiece_tokens(model: Mapping[str, Any]) -> set[str]:
    prefix = model.get("continuing_subword_prefix", "##") or ""
    unknown = model.get("unk_token", "[UNK]")
    return {token for token in model["vocab"] if len(token.removeprefix(prefix)) == 1 or token == unknown}


def _bpe_tokens(model: Mapping[str, Any]) -> set[str]:
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    symbols = {token for token in model["vocab"] if len(token.removeprefix(prefix).removesuffix(suffix)) == 1}
    return symbols | _bytes(model, model["vocab"]) | {t for t in model["vocab"] if t == model.get("unk_token")}


def _unigram_tokens(model: Mapping[str, Any]) -> set[str]:
    pieces, unknown = model["vocab"], model.get("unk_id")
    remaining = {piece for piece, _ in pieces if len(piece) == 1} | _bytes(model, [piece for piece, _ in pieces])
    lowest, _ = min(pieces, key=lambda piece: piece[1])
    return remaining | {lowest} | ({pieces[unknown][0]} if unknown is not None else set())


def _bytes(model: Mapping[str, Any], tokens: Collection[str]) -> set[str]:
    """Return the tokens of single bytes that stand for characters without a token."""
    names = {f"<0x{byte:02X}>" for byte in range(256)} if model.get("byte_fallback") else set()
    return names & {*tokens}


REQUIRED: dict[str, Callable[[Mapping[str, Any]], set[str]]] = {
    "BPE": _bpe_tokens,
    "Unigram": _unigram_tokens,
    "WordPiece": _wordpiece_tokens,
}


def _merged_parts(model: Mapping[str, Any], remaining: Collection[str]) -> set[str]:
    """Return the tokens that the kept ones are merged of, and those that these are merged of."""
    parts: dict[str, set[str]] = {}
    for merge in model["merges"]:
        first, second = _parts(merge)
        parts.setdefault(_merge_result(model, first, second), set()).update((first, second))
    closed, waiting = set[str](), [*remaining]
    while waiting:
        new = parts.get(waiting.pop(), set()) - closed
        closed |= new
        waiting += new
    return closed


def _parts(merge: str | list[str]) -> tuple[str, str]:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second


def _merge_result(model: Mapping[str, Any], first: str, second: str) -> str:
    return first + second.removeprefix(model.get("continuing_subword_prefix") or "")


def _prune_model(model: Mapping[str, Any], remaining: set[str]) -> tuple[Document, list[int]]:
    """Return the fields of the smaller model, and the former ids of its tokens in their new order."""
    if isinstance(model["vocab"], list):
        former = [number for number, (piece, _) in enumerate(model["vocab"]) if piece in remaining]
        unknown = model.get("unk_id")
        pieces = [model["vocab"][number] for number in former]
        unknown = None if unknown is None else former.index(unknown)
        return {"type": model["type"], "vocab": pieces, "unk_id": unknown}, former
    tokens = sorted((number, token) for token, number in model["vocab"].items() if token in remaining)
    fields: Document = {"type": model["type"], "vocab": {token: place for place, (_, token) in enumerate(tokens)}}
    if "merges" in model:
        fields["merges"] = [m for m in model["merges"] if {*_parts(m), _merge_result(model, *_parts(m))} <= remaining]
    return fields, [number for number, _ in tokens]


def _renumber(processor: Any, ids: Mapping[int, int]) -> Any:
    """Return a post-processor, whose parts were checked, with the new ids of its special tokens."""
    if processor is None:
        return None
    new = dict(processor)
    if processor["type"] == "Sequence":
        new["processors"] = [_renumber(part, ids) for part in processor["processors"]]
    for name in ("cls", "sep"):
        if name in processor:
            new[name] = [processor[name][0], ids[processor[name][1]]]
    if "special_tokens" in processor:
        new["special_tokens"] = {
            name: {**token, "ids": [ids[number] for number in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
    return new
