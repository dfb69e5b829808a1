"""What a source holds, file by file, before anything is decoded; and what is wrong with it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from effxfer.errors import DataError
from effxfer.files import digest

Severity = Literal["error", "warning", "note"]
SPLITS = ("train", "val", "test")
UNLABELLED = "unlabelled"
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
SHOWN = 5
TABLES = (".csv", ".tsv", ".parquet")


class Item(NamedTuple):
    """One labelled image.

    Attributes:
        path: Relative to the root, with forward slashes.
        label: Class name.
        split: `train`, `val` or `test`, or `unlabelled`; empty while it is not decided.
        domain: First folder of the path where classes come from the last one; else empty.
        sha256: Digest of the file's bytes; empty while it is not known.
    """

    path: str
    label: str
    split: str = ""
    domain: str = ""
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a user should know about the data.

    Attributes:
        code: Stable identifier such as `E310`.
        severity: An `error` stops training, a `warning` should be looked at, a `note` is for the record.
        path: The file or folder, relative to the root; empty if it concerns the whole source.
        text: What is wrong, or what is done about it.
        hint: What would work.
        group: What findings of this kind share, to sum them up in one sentence; `text` if empty.
    """

    code: str
    severity: Severity
    path: str
    text: str
    hint: str = ""
    group: str = ""


class Found(NamedTuple):
    """What a folder or a table holds: items without hashes, and findings."""

    items: list[Item]
    findings: list[Finding]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files, labels and splits of a source.

    Attributes:
        name: The task's name.
        root: Folder that paths are relative to; None for a built-in source.
        classes: Class names, sorted; a label is an index into them.
        items: Sorted by path.
        findings: Everything noticed without decoding, errors included.
        notes: What a reader of a report must know.
        digest: Digest of paths, contents, labels and splits.
        unlabelled: Images without a label, sorted by path; not among `items`.
        target: What lies where the network is to work, if that is elsewhere.
        assigned: The labelled images with those that `max_per_class` leaves out, each in its split.
    """

    name: str
    root: Path | None
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    digest: str
    unlabelled: tuple[Item, ...] = ()
    target: "Listing | None" = None
    assigned: tuple[Item, ...] = ()

    @property
    def key(self) -> str:
        """Digest of everything that a task made of it depends on: its own, and that of its target."""
        return digest([self.digest, self.target.key]) if self.target else self.digest

    @property
    def everything(self) -> tuple[Item, ...]:
        """Images with and without a label."""
        return (*self.items, *self.unlabelled)

    def split(self, name: str) -> list[Item]:
        """Give the items of one split, or those that are `unlabelled`."""
        return [item for item in self.everything if item.split == name]


def raise_errors(findings: Sequence[Finding], where: str) -> None:
    """Stop at the most basic kind of error, with its count and first five paths.

    Raises:
        DataError: If any of the findings is an error.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if not errors:
        return
    first = errors[0]
    same = [finding for finding in errors if finding.code == first.code]
    others = Counter(finding.code for finding in errors if finding.code != first.code)
    also = f" (and {', '.join(f'{n} x {code}' for code, n in sorted(others.items()))})" if others else ""
    raise DataError(f"{where}: {summed(same)}{also}", first.hint, code=first.code)


def summed(findings: Sequence[Finding]) -> str:
    """Put findings of one code into one sentence: the text of a single one, else the count and the first five."""
    if len(findings) == 1:
        one = findings[0]
        return f"{one.path}: {one.text}" if one.path else one.text
    shown = "; ".join(f"{f.path}: {f.text}" if f.path else f.text for f in findings[:SHOWN])
    more = f"; and {len(findings) - SHOWN} more" if len(findings) > SHOWN else ""
    return f"{len(findings)} problems: {shown}{more}"


def notes_of(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Sum up warnings and notes, one sentence for each group."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        if finding.severity != "error":
            groups.setdefault((finding.code, finding.group or finding.text), []).append(finding)
    return tuple(_note(code, text, found) for (code, text), found in groups.items())


def _note(code: str, text: str, found: list[Finding]) -> str:
    paths = [f.path for f in found if f.path]
    if not paths:
        return f"{code} {text}"
    return f"{code} {text}: {counted(paths)}"


def some(names: Sequence[str]) -> str:
    """Give the first of some names, and how many more there are.

    >>> some(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def counted(paths: Sequence[str]) -> str:
    """Give the count and the first of some paths.

    >>> counted(["a.jpg", "b.jpg"])
    '2 (a.jpg ...)'
    """
    return f"{len(paths)} ({paths[0]}{' ...' if len(paths) > 1 else ''})"
