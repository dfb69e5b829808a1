"""Write the `tokenizer.json` of CLIP's byte-pair encoding from `vocab.json` and `merges.txt`."""

import json
from typing import Any

from effxfer.runtime.text.errors import TextError

START, END = "<|startoftext|>", "<|endoftext|>"
# Of CLIP: a token that ends a word says so. RoBERTa and GPT-2 mark where a word begins.
SUFFIX = "</w>"
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
NORMALIZERS = (
    {"type": "NFC"},
    {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
    {"type": "Lowercase"},
)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
HINT = "save the tokenizer again, or take another copy"


def build_clip_bpe(vocabulary: bytes, merges: bytes) -> bytes | None:
    """Return the `tokenizer.json` that transformers writes for the two files of a CLIP tokenizer.

    Args:
        vocabulary: Content of `vocab.json`: ids by token.
        merges: Content of `merges.txt`: two parts in each line, the most important ones first.

    Returns:
        None if it is the vocabulary of another byte-pair encoding.

    Raises:
        TextError: `E441` if one of them is damaged.
    """
    try:
        ids, lines = json.loads(vocabulary.decode("utf-8-sig")), merges.decode("utf-8-sig").splitlines()
    except (ValueError, RecursionError) as error:
        raise TextError(f"vocab.json and merges.txt cannot be read: {error}", HINT, code="E441") from None
    if not isinstance(ids, dict) or END not in ids or START not in ids or not any(t.endswith(SUFFIX) for t in ids):
        return None
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(name, ids[name]) for name in (START, END)],
        "normalizer": {"type": "Sequence", "normalizers": list(NORMALIZERS)},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [_split_words(), BYTES]},
        "post_processor": {
            "type": "RobertaProcessing", "sep": [END, ids[END]], "cls": [START, ids[START]], "trim_offsets": False,
            "add_prefix_space": False,
        },
        "decoder": BYTES,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": END, "continuing_subword_prefix": "",
            "end_of_word_suffix": SUFFIX, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": ids, "merges": [line for line in lines if line.strip() and not line.startswith("#version")],
        },
    }  # fmt: skip
    return json.dumps(document, ensure_ascii=False).encode()


def _special(name: str, number: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": name, **flags, "special": True}


def _split_words() -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": True}
