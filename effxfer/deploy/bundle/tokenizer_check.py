"""Compare the ids that the page of a bundle gives for texts with those of training, in Node.js.

Tokenizers.js writes the library `tokenizers` anew, with other tables of Unicode and other regular expressions; it does
not say which tokenizers it gets right. So a page is shipped only if it got these texts right.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from effxfer.deploy.bundle.page import WEB, token_facts
from effxfer.deploy.bundle.web_library import WebFiles, first_line
from effxfer.process.scratch import scratch_folder
from effxfer.runtime.outputs.words import find_words, trim
from effxfer.runtime.text.errors import TextError
from effxfer.runtime.text.tokens import TOKENIZER, Source, Tokens

Fields = tuple[str, ...]
Row = dict[str, Any] | str  # ids and places of the page, or why it refuses a text
SCRIPT = "encode.mjs"
# What Node.js prints of an exception, below the line of the script that threw it.
ERROR = re.compile(r"\w*Error\b")
# Chosen: a second or two of Node.js; a tokenizer that differs does so on far fewer texts.
MOST_TEXTS = 5000
# Seconds; chosen, since a script that hangs has to end some time.
TIMEOUT = 300.0
# What tokenizers differ in: accents, capitals of other scripts, ideographs of 16 and 17 bits, emoji, joiners, blanks,
# control characters, punctuation, digits, special tokens as plain text, long words and long texts.
PROBES = (
    "Naïve CAFÉ à la crème brûlée, e\u0301te\u0301!",
    "ΟΔΟΣ Σίσυφος ΣΟΦΟΣ.",
    "ПРИВЕТ, Йод",
    "İstanbul ıÇĞŞ ẞtraße ﬁn",
    "日本語のテキスト、漢字。",
    "\U00020000x\U0002a6d6 中",
    "한국어 문장",
    "مرحبا بالعالم",
    "हिन्दी भाषा",
    "😀 👍🏽 👩\u200d👩\u200d👧 🇩🇪",
    "a\u00a0b\u2003c\u3000d\te\nf\r\ng\u0085h\u2028i",
    "x\u200by\u00adz\ufeff\x00\x07\ufffd",
    "don't stop-now... $5.99 (50%) #tag @me http://a.example/?q=1&b=2_c",
    "1234567890 ³½ Ⅳ ١٢٣",
    " leading and trailing ",
    "[CLS] a [SEP] b [MASK] [PAD] [UNK] </s> <s> <mask> <pad> <unk> <|endoftext|>",
    "",
    " ",
    "w" * 150,
    "a b " * 2000,
)


def find_difference(tokens: Tokens, texts: Sequence[Fields], library: WebFiles, kind: str = "single") -> str | None:
    """Compare the page's ids, and places, with the runtime's on texts and on probes of what tokenizers differ in.

    Args:
        tokens: The model's input.
        texts: Texts by field, such as those of validation; of many, `MOST_TEXTS` at even distances.
        library: Tokenizers.js.
        kind: Of label; of tags and answers the places of words and tokens are compared as well.

    Returns:
        None if all are equal; else the reason why the page would answer otherwise, in one line.

    Raises:
        FileNotFoundError: Without Node.js.
    """
    node = shutil.which("node")
    if node is None:
        raise FileNotFoundError("node")
    examples = [*texts[:: -(-len(texts) // MOST_TEXTS) or 1], *_probes(tokens)]
    with scratch_folder() as folder:
        _write_scripts(folder, tokens, examples, library, kind)
        try:
            process = subprocess.run(
                [node, SCRIPT], cwd=folder, capture_output=True, encoding="utf-8", timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            return f"it did not tokenize {len(examples)} texts within {TIMEOUT:.0f} s"
    if process.returncode:
        return f"it fails: {first_line(line for line in process.stderr.splitlines() if ERROR.match(line))}"
    return _compare(tokens, examples, json.loads(process.stdout), kind)


def _probes(tokens: Tokens) -> list[Fields]:
    """Return the probes in every field, beside themselves turned around."""
    if tokens.takes_pairs:
        return list(zip(PROBES, reversed(PROBES), strict=True))
    return [(probe,) for probe in PROBES]


def _write_scripts(folder: Path, tokens: Tokens, examples: Sequence[Fields], library: WebFiles, kind: str) -> None:
    (folder / library.library.folder).mkdir()
    for name, content in library.files.items():
        (folder / library.library.folder / name).write_bytes(content)
    for name in (SCRIPT, "tokens.js", "positions.js"):
        (folder / name).write_bytes((WEB / name).read_bytes())
    (folder / TOKENIZER).write_bytes(tokens.tokenizer)
    # The page's scripts are modules, whatever their names end with.
    contents = {"package.json": {"type": "module"}, "tokens.json": token_facts(tokens, kind), "texts.json": examples}
    for name, value in contents.items():
        (folder / name).write_text(json.dumps(value), encoding="utf-8")


def _compare(tokens: Tokens, examples: Sequence[Fields], rows: Sequence[Row], kind: str) -> str | None:
    pairs = zip(examples, rows, strict=True)
    different = [(example, row) for example, row in pairs if not _is_equal(tokens, example, row, kind)]
    if not different:
        return None
    (first, *_), row = different[0]
    reason = f" ({row})" if isinstance(row, str) else ""
    return f"it tokenizes {len(different)} of {len(examples)} texts otherwise, such as {first[:40]!r}{reason}"


def _is_equal(tokens: Tokens, example: Fields, row: Row, kind: str) -> bool:
    """Whether both give the same ids and places, or both refuse the text."""
    offsets = find_words(example[0]) if kind == "tags" else []
    source: Source = [example[0][start:end] for start, end in offsets] if kind == "tags" else example[0]
    try:
        encodings = tokens.encode([example if len(example) > 1 else source], spans=kind == "span")  # type: ignore[list-item]
    except TextError:
        return isinstance(row, str)
    ids = encodings.rows.row(0)
    if isinstance(row, str) or not np.array_equal(ids, row["ids"]):
        return False
    if kind == "tags":
        is_complete = len(encodings.rows) > 1 or encodings.cut or len(row["places"]) == len(offsets)
        return bool(is_complete) and [tuple(place) for place in row["places"]] == offsets[: len(row["places"])]
    return kind != "span" or _covers(row["places"], encodings.spans[: len(ids)].tolist(), example[-1])  # type: ignore[index]


def _covers(places: Sequence[list[int] | None], spans: Sequence[list[int]], text: str) -> bool:
    """Whether each token's place on the page, that of its whole word, holds its place in Python, but for blanks."""
    if [place is None for place in places] != [start < 0 for start, _ in spans]:
        return False
    pairs = [(p, trim(text, *span)) for p, span in zip(places, spans, strict=True) if p]
    return all(place[0] <= start and end <= place[1] for place, (start, end) in pairs if start < end)
