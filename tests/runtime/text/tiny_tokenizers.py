"""Tokenizers of a few tokens: WordPiece, byte-level BPE, unigram with replacements, and whole words."""

import base64
import json
import struct

from effxfer.runtime.text.pretrained import build_wordpiece
from effxfer.runtime.text.tokens import Tokens

WORDS = """
[PAD] [UNK] [CLS] [SEP] [MASK] a b c d e f the cat sat on mat it was great . , [ ] ##s ##ing ##ting play sep pad mask
""".split()  # noqa: SIM905 (a vocabulary is read as a text)
WORDPIECE = build_wordpiece("\n".join(WORDS).encode(), {})


def ids(*words: str) -> list[int]:
    return [WORDS.index(word) for word in words]


def tokens(size: int = 16, **options) -> Tokens:
    return Tokens(tokenizer=WORDPIECE, size=size, pad=0, **options)


def document(content: bytes = WORDPIECE, **parts) -> bytes:
    """Another tokenizer.json, with other parts."""
    return json.dumps({**json.loads(content), **parts}).encode()


def added(name: str, number: int, **flags) -> dict:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": name, "special": True, **plain, **flags}


WHOLE_WORDS = json.dumps(
    {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [added("[UNK]", 0), added("[PAD]", 1), added("[SEP]", 2)], "decoder": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[UNK]": 0, "[PAD]": 1, "[SEP]": 2, "a": 3}},
    }
).encode()  # fmt: skip


def byte_level(*, prefix: bool = False) -> bytes:
    """As RoBERTa has it, trained on a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    library = Tokenizer(models.BPE(unk_token=None))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    library.train_from_iterator(["the cat sat on the mat"] * 4, trainer)
    library.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=prefix)
    return library.to_str().encode()


def charsmap(letter: str = "a", replacement: bytes = b"b\0") -> bytes:
    """A table that replaces one letter, as SentencePiece compiles it."""
    units = [0] * 768
    units[0] = 256 << 10
    units[256 ^ ord(letter)] = ord(letter) | 1 << 8 | (256 ^ ord(letter) ^ 512) << 10
    units[512] = 1 << 31
    return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + replacement


def unigram(table: bytes | None = None) -> bytes:
    """Pieces with a sign for the blank before a word, as T5 has them."""
    encoded = base64.b64encode(charsmap() if table is None else table).decode()
    pieces = [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁b", -1.0], ["▁", -3.0], ["b", -2.0], ["c", -2.0]]
    parts = {
        "added_tokens": [added("<pad>", 0), added("</s>", 1), added("<unk>", 2)],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": encoded},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": None,
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "model": {"type": "Unigram", "unk_id": 2, "vocab": pieces},
    }
    return document(WHOLE_WORDS, **parts)
