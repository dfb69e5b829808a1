"""Read the texts of a source: one file, or several files of a split each."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from effxfer.data.listing import SPLIT_NAMES, Finding, LabelKind, first_names, raise_errors
from effxfer.data.settings import DataSettings, Format
from effxfer.data.sources.builtin_texts import BUILTIN_TEXTS, read_builtin_texts
from effxfer.data.texts.conll import read_conll
from effxfer.data.texts.examples import Example, TextListing, text_of
from effxfer.data.texts.json_lines import read_json_lines
from effxfer.data.texts.label_lines import read_label_lines
from effxfer.data.texts.squad import read_squad
from effxfer.data.texts.text_table import read_text_table
from effxfer.errors import DataError, SettingsError
from effxfer.runtime.images.names import is_litter

READERS: dict[Format, Callable[[Path, DataSettings], TextListing]] = {
    "conll": read_conll,
    "jsonl": read_json_lines,
    "lines": read_label_lines,
    "squad": read_squad,
    "table": read_text_table,
}
SUFFIXES: dict[str, Format] = {
    ".bio": "conll", ".conll": "conll", ".conllu": "conll", ".csv": "table", ".iob": "conll", ".json": "squad",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "table", ".tsv": "table",
}  # fmt: skip
# Of other kinds of label than single ones.
FORMATS: dict[LabelKind, tuple[Format, ...]] = {
    "multi": ("table",), "value": ("table",), "tasks": ("table", "jsonl"), "tags": ("conll", "jsonl"),
    "span": ("squad",), "none": ("lines", "jsonl", "table"),
}  # fmt: skip
SHAPES: dict[Format, str] = {
    "lines": "give a file with a text in each line, lines of objects, or a table",
    "conll": "give a file of CoNLL, or a .jsonl file of words and tags",
    "squad": "give a .json file in the format of SQuAD",
    "table": "give a .csv, .tsv or .parquet table with columns of labels",
}
# Settings that a format is read by, among those that not every format has.
READ_BY: dict[Format, tuple[str, ...]] = {
    "conll": ("word_column", "tag_column", "encoding"),
    "jsonl": ("text_column", "pair_column", "label_column", "split_column", "encoding"),
    "lines": ("encoding",),
    "squad": (),
    "table": ("text_column", "pair_column", "label_column", "split_column"),
}
HINT = "give a file of texts, a folder of files, or a pattern such as reviews/sst2.*"
MOST_FILES = 1000
WORD_BREAK = re.compile(r"[^a-z]+")
# The files of CoNLL-2002 and CoNLL-2003 are called eng.train, eng.testa and eng.testb.
FILE_SPLITS = {**SPLIT_NAMES, "testa": "val", "testb": "test"}


def read_texts(settings: DataSettings, base: Path = Path()) -> TextListing:
    """Read all texts of a source.

    Args:
        settings: Source, format and columns.
        base: Folder that a relative source starts from.

    Returns:
        Examples in the order of the files' names, without empty texts, and findings without errors.

    Raises:
        DataError: `E310` without a file or an example, `E330` to `E334` and `E350` to `E353` for files that cannot be
            used, with their lines; `E344` if they cannot hold this kind of label.
        ResourceError: If it is Parquet and pyarrow is not installed.
        SettingsError: `E201` for a setting that none of the files is read by.
    """
    if is_builtin(settings.source, base):
        _refuse_idle(settings, ())
        return _read_builtin(settings)
    files = _files(settings.source, base)
    formats = {file: _format(file, settings) for file in files}
    _refuse_idle(settings, sorted(set(formats.values())))
    splits = _splits(files)
    examples, findings = list[Example](), list[Finding]()
    for file, format in formats.items():
        listing = READERS[format](file, settings)
        split = splits[file]
        examples += [e._replace(split=e.split or split) for e in listing.examples]
        findings += listing.findings
    raise_errors(findings, settings.source)
    filled = [example for example in examples if text_of(example).strip()]
    if not filled:
        raise DataError(f"{settings.source} holds no text", HINT, code="E310")
    return TextListing(filled, [*findings, *_note_empty(examples), *_partial_splits(filled)])


def is_builtin(source: str, base: Path = Path()) -> bool:
    """Whether a source is the name of a built-in data set of texts, and no file."""
    return source in BUILTIN_TEXTS and not os.path.lexists(base / source)


def _read_builtin(settings: DataSettings) -> TextListing:
    if settings.labels not in ("single", "none"):
        text = f"{settings.source} is built in and has one class for each text, and labels is {settings.labels!r}"
        raise DataError(text, "leave labels out", code="E344")
    examples = read_builtin_texts(settings.source)
    plain = [example._replace(label="") for example in examples] if settings.labels == "none" else list(examples)
    return TextListing(plain, [])


def split_of_name(name: str) -> str:
    """Return the split that a part of a file's name says; empty without one.

    >>> [split_of_name(name) for name in ("TREC.train.all", "sst-dev.txt", "contest.txt", "test_1.csv", "eng.testa")]
    ['train', 'val', '', 'test', 'val']
    """
    splits = [FILE_SPLITS[word] for word in WORD_BREAK.split(name.lower()) if word in FILE_SPLITS]
    return splits[-1] if splits else ""


def _files(source: str, base: Path) -> list[Path]:
    path = base / os.path.expanduser(source)  # noqa: PTH111 (never raises)
    try:
        if path.is_dir():
            files = [file for file in path.iterdir() if file.is_file() and not is_litter(file.name)]
        elif "*" in path.name and not path.exists():
            files = [file for file in path.parent.iterdir() if file.is_file() and _matches(file, path.name)]
        else:
            files = [path]
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}", HINT, code="E319") from None
    if not 0 < len(files) <= MOST_FILES:
        raise DataError(f"{source} has {len(files)} files, 1 to {MOST_FILES} are read", HINT, code="E310")
    return sorted(files)


def _matches(file: Path, pattern: str) -> bool:
    return file.match(pattern) and not is_litter(file.name)


def _splits(files: Sequence[Path]) -> dict[Path, str]:
    """Return the split of each file; of a single file, the name does not count.

    Raises:
        DataError: `E310` if some of several files have no split in their name.
    """
    if len(files) == 1:
        return {files[0]: ""}
    splits = {file: split_of_name(file.name) for file in files}
    without = [file.name for file in files if not splits[file]]
    if without:
        text = f"files without a split in their name: {first_names(without)}"
        hint = "name them train, dev and test, or give one file or a pattern such as reviews/sst2.*"
        raise DataError(text, hint, code="E310")
    return splits


def _format(file: Path, settings: DataSettings) -> Format:
    """Return the format of a file.

    Raises:
        DataError: `E344` if it cannot hold labels of the kind that the settings ask for.
    """
    # CoNLL's own files have names such as `train.txt` and `eng.train`.
    plain: Format = "conll" if settings.labels == "tags" else "lines"
    format = SUFFIXES.get(file.suffix.lower(), plain) if settings.format == "auto" else settings.format
    able = FORMATS.get(settings.labels, (format,))
    if format not in able:
        text = f"{file.name} is no {' or '.join(able)} and cannot hold labels of kind {settings.labels!r}"
        raise DataError(text, f"{SHAPES[able[0]]}; `format` says how a file is read", code="E344")
    return format


def _refuse_idle(settings: DataSettings, formats: Sequence[Format]) -> None:
    """Refuse a setting that no file of these formats is read by: without effect it would promise one.

    Raises:
        SettingsError: `E201`.
    """
    names = dict.fromkeys(name for names in READ_BY.values() for name in names)
    used = {name for format in formats for name in READ_BY[format]}
    idle = [name for name in settings.nondefault_among(tuple(names)) if name not in used]
    if idle:
        able = [format for format, read in READ_BY.items() if idle[0] in read]
        origin = f"read as {' and '.join(formats)}" if formats else "built in"
        text = f"data: {idle[0]} has no effect on {settings.source}, which is {origin}"
        hint = "; tables are UTF-8" if idle[0] == "encoding" else ""
        hint = f"leave it out, or give a source of format {' or '.join(able)}{hint}"
        raise SettingsError(text, hint, code="E201")


def _note_empty(examples: Sequence[Example]) -> list[Finding]:
    text = "empty texts left out"
    return [
        Finding(code="W350", severity="warning", path=example.name, text=text)
        for example in examples
        if not text_of(example).strip()
    ]


def _partial_splits(examples: Sequence[Example]) -> list[Finding]:
    """Refuse examples without a split beside examples with one.

    Raises:
        DataError: `E334`.
    """
    without = [example.name for example in examples if not example.split]
    if 0 < len(without) < len(examples):
        raise DataError(f"no split for {first_names(without)}, while others have one", "fill the split", code="E334")
    return []
