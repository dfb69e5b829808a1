"""Read the tokenizer of a folder in the layout of Hugging Face.

It is `tokenizer.json`; or `vocab.txt` of BERT, or `vocab.json` and `merges.txt` of CLIP alone.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from effxfer.runtime.reading import TooLargeError, read_regular
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.layouts.clip_bpe import build_clip_bpe
from effxfer.runtime.text.loading import load_tokenizer
from effxfer.runtime.text.pattern import SINGLE
from effxfer.runtime.text.tokenizer_file import INSTRUCTION, LARGEST_FILE
from effxfer.runtime.text.tokens import TOKENIZER, Tokens

VOCABULARY = "vocab.txt"
CONFIGS = ("tokenizer_config.json", "special_tokens_map.json")
PIECES, MERGES = "vocab.json", "merges.txt"
OTHER_FORMATS = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model", PIECES)
LARGEST_CONFIG = 16_000_000
USUAL_PADS = ("[PAD]", "<pad>")
BERT = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
LONGEST_WORD = 100


def read_tokens(
    folder: Path, size: int, *, pattern: str = SINGLE, stride: int = 0, pad: int | None = None
) -> Tokens:  # fmt: skip
    """Read a folder's tokenizer.

    Args:
        folder: Holds `tokenizer.json`; or `vocab.txt` of a WordPiece tokenizer as BERT has it; or `vocab.json` and
            `merges.txt` as CLIP has them.
        size: Most tokens of a row.
        pattern: How fields become one sequence.
        stride: Tokens that successive windows of a long text share.
        pad: Id of padding; None for that of the tokenizer's padding token.

    Raises:
        TextError: `E441` if there is no tokenizer or it is damaged, `E442` without a padding token, `E444` if it is
            only in the format of SentencePiece, `E445` if a part is not accepted; `E218` for a wrong pattern or stride.
    """
    config = _read_config(folder)
    content = _read_content(folder, config)
    pad = _padding_id(content, config) if pad is None else pad
    return Tokens(tokenizer=content, size=size, pad=pad, pattern=pattern, stride=stride)


def _read_content(folder: Path, config: Mapping[str, Any]) -> bytes:
    for name, convert in ((TOKENIZER, lambda data, _: data), (VOCABULARY, build_wordpiece)):
        if (data := _read(folder / name, LARGEST_FILE)) is not None:
            return convert(data, config)
    pieces, merges = (_read(folder / name, LARGEST_FILE) for name in (PIECES, MERGES))
    if pieces is not None and merges is not None and (built := build_clip_bpe(pieces, merges)) is not None:
        return built
    foreign = [name for name in OTHER_FORMATS if (folder / name).is_file()]
    if not foreign:
        hint = f"give the folder of a network with its {TOKENIZER} or {VOCABULARY}"
        raise TextError(f"{folder} holds no tokenizer", hint, code="E441")
    path, problem = str(folder), f"{folder} holds {foreign[0]} and no {TOKENIZER}"
    command = f"from transformers import AutoTokenizer as T; T.from_pretrained({path!r}).save_pretrained({path!r})"
    raise TextError(problem, f'write it once, where transformers is installed: python -c "{command}"', code="E444")


def build_wordpiece(vocabulary: bytes, config: Mapping[str, Any]) -> bytes:
    r"""Return the `tokenizer.json` of a BERT tokenizer.

    Args:
        vocabulary: Content of `vocab.txt`: a token in each line, whose number is the id.
        config: `do_lower_case`, `strip_accents`, `tokenize_chinese_chars` and names of special tokens are used. Without
            `do_lower_case`, texts are put in lower case if the vocabulary has no capital letter.

    Raises:
        TextError: `E441` if it is not UTF-8 text, or has no unknown token.
    """
    try:
        lines = vocabulary.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise TextError(f"{VOCABULARY} is not UTF-8 text: {error}", INSTRUCTION, code="E441") from None
    vocab = {line.removesuffix("\r"): number for number, line in enumerate(lines)}
    names = {role: _token_name(config.get(role)) or name for role, name in BERT.items()}
    missing = [names[role] for role in ("unk_token", "cls_token", "sep_token") if names[role] not in vocab]
    if missing:
        raise TextError(f"{VOCABULARY} has no token {missing[0]!r:.40}", INSTRUCTION, code="E441")
    special = sorted({name for name in names.values() if name in vocab}, key=lambda name: vocab[name])
    lower = config.get("do_lower_case", not any(map(_has_capital, vocab.keys() - set(special))))
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(name, vocab[name]) for name in special],
        "normalizer": _bert_normalizer(config, bool(lower)),
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _bert_processor(names, vocab),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece", "unk_token": names["unk_token"], "continuing_subword_prefix": "##",
            "max_input_chars_per_word": LONGEST_WORD, "vocab": vocab,
        },
    }  # fmt: skip
    return json.dumps(document, ensure_ascii=False).encode("utf-8")


def _bert_normalizer(config: Mapping[str, Any], lower: bool) -> dict[str, Any]:
    accents, chinese = config.get("strip_accents"), config.get("tokenize_chinese_chars", True)
    strip = accents if accents is None else bool(accents)
    options = {"clean_text": True, "handle_chinese_chars": bool(chinese), "strip_accents": strip, "lowercase": lower}
    return {"type": "BertNormalizer", **options}


def _bert_processor(names: Mapping[str, str], vocab: Mapping[str, int]) -> dict[str, Any]:
    start, end = names["cls_token"], names["sep_token"]
    return {"type": "BertProcessing", "sep": [end, vocab[end]], "cls": [start, vocab[start]]}


def _added_token(name: str, number: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": name, **flags, "special": True}


def _has_capital(token: str) -> bool:
    return token != token.lower() and not (token.startswith("[") and token.endswith("]"))


def _padding_id(content: bytes, config: Mapping[str, Any]) -> int:
    """Return the id of the padding token that the file, its configuration or custom names.

    Raises:
        TextError: `E442` if there is none.
    """
    loaded = load_tokenizer(content)
    padding = json.loads(content.decode("utf-8-sig")).get("padding")
    stated = padding.get("pad_token") if isinstance(padding, dict) else None
    names = [_token_name(name) for name in (stated, config.get("pad_token"))]
    for name in (*names, *USUAL_PADS):
        if name and name in loaded.tokens and loaded.tokens[name] not in loaded.template.ids:
            return loaded.tokens[name]
    hint = f"name a token that no text holds as pad_token in {CONFIGS[0]}"
    raise TextError("the tokenizer has no padding token", hint, code="E442")


def _token_name(raw: Any) -> str:
    """Return the text of a special token, which is stated as a text or as a table."""
    name = raw.get("content") if isinstance(raw, dict) else raw
    return name if isinstance(name, str) else ""


def _read_config(folder: Path) -> dict[str, Any]:
    """Read the files that describe a tokenizer, those that exist.

    Raises:
        TextError: `E441` if one is damaged.
    """
    config: dict[str, Any] = {}
    for name in reversed(CONFIGS):
        data = _read(folder / name, LARGEST_CONFIG)
        try:
            raw = json.loads(data) if data is not None else {}
        except (ValueError, RecursionError):
            raise TextError(f"{folder / name} is no JSON", "restore the file, or remove it", code="E441") from None
        config |= raw if isinstance(raw, dict) else {}
    return config


def _read(file: Path, limit: int) -> bytes | None:
    """Read a file; None if it does not exist.

    Raises:
        TextError: `E441` if it cannot be read, or is too large.
    """
    try:
        return read_regular(file, limit)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except TooLargeError as error:
        raise TextError(f"{file}: {error.strerror}", INSTRUCTION, code="E441") from None
    except OSError as error:
        hint = "change its permissions" if isinstance(error, PermissionError) else "put a regular file there"
        raise TextError(f"{file} cannot be read: {error.strerror}", hint, code="E441") from None
