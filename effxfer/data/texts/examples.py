"""Examples of texts with labels, before they are tokenized."""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from effxfer.data.listing import POSITION_KINDS, Finding, Item, LabelKind, Text
from effxfer.errors import DataError

# Chosen: enough to show what is wrong; a file of another format has as many findings as lines.
MOST_FINDINGS = 1000
# As for tables: about 300 bytes each in memory, 1.5 GB.
MOST_EXAMPLES = 5_000_000
SEPARATOR = "\x1f"
LONGEST_DESCRIPTION = 60


class Answer(NamedTuple):
    """An answer in a context.

    Attributes:
        start: Its first character in the context.
        text: Its characters.
    """

    start: int
    text: str


Label = str | tuple[str, ...] | tuple[Answer, ...]


class Example(NamedTuple):
    """One text with its label.

    Attributes:
        source: A text, a pair of texts (a question and its context), or words.
        label: A class name, a tag for each word, or the answers to a question; no answer for one that has none.
        name: File and line, or the question's identifier.
        split: `train`, `val` or `test`; empty if the source does not say.
        document: What it is a part of, such as `3` for the third document of a file; empty if it stands alone.
    """

    source: Text
    label: Label
    name: str
    split: str = ""
    document: str = ""


class TextListing(NamedTuple):
    """The examples of a source, and findings about it."""

    examples: list[Example]
    findings: list[Finding]


def text_of(example: Example) -> str:
    """Return all text of an example, its parts separated by blanks."""
    return example.source if isinstance(example.source, str) else " ".join(example.source)


def content_key(example: Example) -> str:
    r"""Digest the text of an example, equal for texts that differ in case, blanks or the form of characters only.

    >>> content_key(Example("A  caf\u00e9 ", "x", "1")) == content_key(Example("a cafe\u0301", "y", "2"))
    True
    """
    parts = (example.source,) if isinstance(example.source, str) else example.source
    folded = (" ".join(unicodedata.normalize("NFKC", part).casefold().split()) for part in parts)
    return hashlib.sha256(SEPARATOR.join(folded).encode("utf-8", "surrogatepass")).hexdigest()


def shared_key(source: Text) -> str:
    r"""Digest a text for the comparison of data tables: equal for a text and its words, however they are divided.

    >>> shared_key("Play jazz!") == shared_key(["play", "jazz", "!"])
    True
    """
    parts = (source,) if isinstance(source, str) else source
    characters = "".join("".join(part.split()) for part in parts)
    folded = unicodedata.normalize("NFKC", characters).casefold()
    return hashlib.sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()


def exact_key(source: Text) -> str:
    """Digest a text; other texts have other digests, in whatever they differ."""
    return hashlib.sha256(exact_bytes(source)).hexdigest()


def exact_bytes(source: Text) -> bytes:
    """Return bytes that differ for texts that differ."""
    parts = (source,) if isinstance(source, str) else source
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    lengths = " ".join(str(len(part)) for part in encoded)
    return b"".join([f"{type(source).__name__} {lengths}\n".encode(), *encoded])


def label_name(example: Example) -> str:
    """Return the class of an example; for tags and answers JSON, which is equal for equal labels."""
    label = example.label
    return label if isinstance(label, str) else json.dumps(label, ensure_ascii=False)


def read_label(kind: LabelKind, name: str) -> Label:
    """Undo `label_name` for a kind of label."""
    if kind not in POSITION_KINDS:
        return name
    return tuple(json.loads(name)) if kind == "tags" else tuple(Answer(*answer) for answer in json.loads(name))


def describe_label(name: str) -> str:
    """Return `label_name` of tags or answers as a person writes it, for messages.

    >>> describe_label('["B-PER", "O"]'), describe_label('[[3, "Rome"]]'), describe_label("[]")
    ('B-PER O', 'Rome', 'no answer')
    """
    parts = [part if isinstance(part, str) else part[1] for part in json.loads(name)]
    return " ".join(parts)[:LONGEST_DESCRIPTION] or "no answer"


def items(examples: Iterable[Example]) -> list[Item]:
    """Return examples as items, with which splits are assigned and compared; equal texts have equal contents.

    Sentences of a document count as one content, so that no document is in two splits.
    """
    return [Item(example.name, label_name(example), example.split, "", _split_key(example)) for example in examples]


def _split_key(example: Example) -> str:
    if not example.document:
        return content_key(example)
    return hashlib.sha256(f"document {example.document}".encode()).hexdigest()


def line_finding(code: str, file: object, line: int, text: str, hint: str, *, skip_bad: bool = False) -> Finding:
    """Return the finding for a line that cannot be used: an error, or a warning if such lines are left out."""
    if skip_bad:
        group = "lines left out"
        return Finding(code=code, severity="warning", path=f"{file}:{line}", text=f"{text}, left out", group=group)
    return Finding(code=code, severity="error", path=f"{file}:{line}", text=text, hint=hint)


def limit_examples(count: int, source: object) -> None:
    """Stop reading a source that has more examples than fit into memory.

    Raises:
        DataError: `E352`.
    """
    if count > MOST_EXAMPLES:
        raise DataError(f"{source} has more than {MOST_EXAMPLES} examples", "split it into several files", code="E352")


def limit_findings(findings: Sequence[Finding], source: object) -> None:
    """Stop reading a source that has too many problems.

    Raises:
        DataError: `E351` with the first of them.
    """
    if len(findings) >= MOST_FINDINGS:
        first = findings[0]
        problem = f"{source}: {MOST_FINDINGS} problems, the first in {first.path}: {first.text}"
        raise DataError(problem, "is it a file of another format? set `format`", code="E351")
