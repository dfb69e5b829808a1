"""Read files of CoNLL: a word and its columns in each line, an empty line after each sentence."""

import re
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from effxfer.data.listing import Finding
from effxfer.data.settings import DataSettings
from effxfer.data.texts.examples import Example, TextListing, limit_examples, limit_findings, line_finding
from effxfer.data.texts.numbered_lines import numbered_lines

DOCUMENT = "-DOCSTART-"
HINT = "give each line a word and its tag, and leave a line empty after each sentence"
OUTSIDE = "O"
MOST_COLUMNS = 100
# Not those of Unicode, which stand within words: 10\u00a0000.
BLANKS = re.compile(" +")


class _Sentence(NamedTuple):
    """Words and tags of a sentence, with the number of its first line."""

    line: int
    words: list[str]
    tags: list[str]


def read_conll(file: Path, settings: DataSettings) -> TextListing:
    """Read a file of words and tags.

    Lines that begin with `-DOCSTART-` begin a document, `#` in front of an identifier or a text is a comment of
    CoNLL-U. Columns are separated by a tab if the line has one, else by blanks.

    Args:
        file: The file.
        settings: `word_column`, `tag_column`, `encoding` and `skip_bad` are used.

    Returns:
        An example for each sentence, with the number of its document if the file has several; and findings: `E351` for
        a line that lacks a column, whose sentence is not used, and a note on tags that begin with I.

    Raises:
        DataError: `E310`, `E350` or `E352` if the file is absent, not text or too large.
    """
    reader = _Reader(file, settings)
    for number, line in numbered_lines(file, settings.encoding):
        reader.read(number, line)
    reader.end_sentence()
    documents = reader.documents > 1
    examples = [
        Example(s.words, tuple(s.tags), f"{file.name}:{s.line}", "", f"{file.name} {document}" if documents else "")
        for document, s in reader.sentences
    ]
    return TextListing(examples, [*reader.findings, *_note_beginnings(examples)])


class _Reader:
    """Collects sentences line by line."""

    def __init__(self, file: Path, settings: DataSettings) -> None:
        self._file, self._settings = file, settings
        self.documents = 0
        self.sentences: list[tuple[int, _Sentence]] = []
        self.findings: list[Finding] = []
        self._sentence, self._broken = _Sentence(0, [], []), False

    def read(self, number: int, line: str) -> None:
        if not line.strip():
            self.end_sentence()
        elif line.startswith(DOCUMENT):
            self.end_sentence()
            self.documents += 1
        elif not _is_comment(line):
            self._add_word(number, line)

    def end_sentence(self) -> None:
        if self._sentence.words and not self._broken:
            self.sentences.append((self.documents, self._sentence))
            limit_examples(len(self.sentences), self._file)
        self._sentence, self._broken = _Sentence(0, [], []), False

    def _add_word(self, number: int, line: str) -> None:
        columns = line.split("\t", MOST_COLUMNS) if "\t" in line else BLANKS.split(line.strip(" "), MOST_COLUMNS)
        try:
            word, tag = (columns[i].strip() for i in (self._settings.word_column, self._settings.tag_column))
        except IndexError:
            word = tag = ""
        if not word or not tag or len(columns) < 2:
            self._broken = True
            text = f"{len(columns)} column{'s' * (len(columns) != 1)}, without a word or a tag"
            finding = line_finding("E351", self._file.name, number, text, HINT, skip_bad=self._settings.skip_bad)
            self.findings.append(finding)
            limit_findings(self.findings, self._file)
        if not self._sentence.words:
            self._sentence = _Sentence(number, [], [])
        self._sentence.words.append(sys.intern(word))
        self._sentence.tags.append(sys.intern(tag))


def _is_comment(line: str) -> bool:
    """Whether a line is a comment of CoNLL-U, such as `# text = ...`; a word `#` has its columns behind it."""
    return line.startswith("# ") and (" = " in line or line.startswith(("# sent", "# newdoc", "# newpar")))


def _note_beginnings(examples: list[Example]) -> list[Finding]:
    """Note the tags I that follow no tag of their type, which begin an entity in the scheme IOB1."""
    counts: Counter[str] = Counter()
    for example in examples:
        before = OUTSIDE
        for tag in map(str, example.label):
            counts["I"] += tag.startswith("I-") and before[1:] != tag[1:]
            counts["B"] += tag.startswith("B-")
            before = tag
    if not counts["I"]:
        return []
    text = f"{counts['I']} tags I- begin an entity, beside {counts['B']} tags B-: read as beginnings"
    return [Finding(code="W351", severity="note", path="", text=text)]
