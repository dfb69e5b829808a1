"""Listings of a source: its files, texts or vectors, labels and splits, with findings, before anything is decoded."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effxfer.errors import DataError
from effxfer.files import digest
from effxfer.runtime.class_tables.class_table import ClassTable

Severity = Literal["error", "warning", "note"]
Text = str | tuple[str, str] | list[str]  # a pair, or words
LabelKind = Literal["single", "multi", "value", "tags", "span", "none", "tasks"]
# What the head's columns are called.
NOUNS: dict[LabelKind, str] = {
    "single": "classes", "multi": "labels", "value": "values", "tags": "tags", "span": "ends of answers",
    "none": "labels", "tasks": "classes and values of tasks",
}  # fmt: skip
# Kinds whose labels are of words or of answers; only texts have them.
POSITION_KINDS: frozenset[LabelKind] = frozenset({"tags", "span"})
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
# Chosen: enough to see a pattern; the rest is counted.
SHOWN = 5
TABLES = (".csv", ".tsv", ".parquet")
NO_CAPTIONS: Mapping[str, tuple[str, ...]] = {}


class Item(NamedTuple):
    """One labelled image, text or vector.

    Attributes:
        path: Relative to the root, with forward slashes; of a text the file's name and the line,
            of a vector the file's name and the row.
        label: Class name, or the text that `labels.cells` describes; `labels.arrays` makes arrays of it.
        split: `train`, `val`, `test` or `unlabelled`; empty before it is assigned.
        domain: First folder of the path, if the last one is the class; else empty.
        sha256: Digest of the file's bytes, empty before it is computed; of a text, without regard to case and blanks;
            of a vector, of its numbers.
    """

    path: str
    label: str
    split: str = ""
    domain: str = ""
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem or note about the data.

    Attributes:
        code: Stable identifier such as `E310`.
        severity: An `error` stops training, a `warning` should be checked, a `note` is for information.
        path: The file or folder, relative to the root; empty if it concerns the whole source.
        text: The problem, or how it is handled.
        hint: What would work.
        group: Common text of findings of this kind, to summarize them; `text` if empty.
    """

    code: str
    severity: Severity
    path: str
    text: str
    hint: str = ""
    group: str = ""


class SourceListing(NamedTuple):
    """The content of a folder or a table: items without digests, findings, and the names of labels or values.

    Single labels are their own names: without `classes`, these are the labels of the items in use. `captions` are
    those of the items by their paths.
    """

    items: list[Item]
    findings: list[Finding]
    classes: tuple[str, ...] = ()
    captions: Mapping[str, tuple[str, ...]] = NO_CAPTIONS


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files, labels and splits of a source.

    Attributes:
        name: The task's name.
        root: Folder that paths are relative to; None for a built-in source.
        classes: Names of the head's columns: classes or labels, sorted, or the columns that hold values.
        items: Sorted by path; texts in the order of their files and lines.
        findings: All findings without decoding, including errors.
        notes: Summaries of warnings and notes, for reports.
        digest: Digest of paths, contents, labels and splits.
        unlabelled: Images without a label, sorted by path; not among `items`.
        target: The listing of the target, if there is one.
        assigned: All labelled images with their splits, including those that `max_per_class` excludes.
        labels: Kind of label, as in the settings.
        tasks: Kind of label of each task by its name, where `labels` is `tasks`.
        texts: The text of each item by its path, where the source holds texts; empty for images.
        class_embeddings: Rows of numbers of its classes, and of new ones of the target; None if there are none.
        captions: Captions of each image by its path, in the order of the rows; empty if there are none.
        vectors: The vectors of all items, float32 `(N, D)`, in the order of `everything`; None for others.
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
    labels: LabelKind = "single"
    tasks: Mapping[str, LabelKind] = field(default_factory=dict)
    texts: Mapping[str, Text] = field(default_factory=dict)
    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    vectors: NDArray[np.float32] | None = None
    class_embeddings: ClassTable | None = None

    @property
    def unit(self) -> str:
        """What the items are, in the plural."""
        if self.vectors is not None:
            return "vectors"
        return "texts" if self.texts else "images"

    @property
    def target_kind(self) -> Literal["", "domain", "new classes"]:
        """What the target is: nothing, another domain of these classes, or new classes."""
        if self.target is None:
            return ""
        return "domain" if set(self.target.classes) & set(self.classes) else "new classes"

    @property
    def typical_count(self) -> float:
        """Median number of training examples of a class; 0 if there are none."""
        counts = Counter(item.label for item in self.split("train"))
        return float(median(counts.values())) if counts else 0.0

    @property
    def key(self) -> str:
        """Digest of everything that its task depends on, including the target."""
        key = digest([self.digest, self.target.key]) if self.target else self.digest
        return digest([key, self.class_embeddings.content()]) if self.class_embeddings else key

    @property
    def everything(self) -> tuple[Item, ...]:
        """All images, with and without a label."""
        return (*self.items, *self.unlabelled)

    def split(self, name: str) -> list[Item]:
        """Return the items of one split, or of `unlabelled`."""
        return [item for item in self.everything if item.split == name]


def raise_errors(findings: Sequence[Finding], source: str) -> None:
    """Raise the first kind of error, with its count and first five paths.

    Raises:
        DataError: If any of the findings is an error.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if not errors:
        return
    first = errors[0]
    same_kind = [finding for finding in errors if finding.code == first.code]
    other_codes = Counter(finding.code for finding in errors if finding.code != first.code)
    suffix = f" (and {', '.join(f'{n} x {code}' for code, n in sorted(other_codes.items()))})" if other_codes else ""
    raise DataError(f"{source}: {summarize(same_kind)}{suffix}", first.hint, code=first.code)


def summarize(findings: Sequence[Finding]) -> str:
    """Summarize findings of one code: the text of a single one, otherwise the count and the first five."""
    if len(findings) == 1:
        finding = findings[0]
        return f"{finding.path}: {finding.text}" if finding.path else finding.text
    shown = "; ".join(f"{f.path}: {f.text}" if f.path else f.text for f in findings[:SHOWN])
    suffix = f"; and {len(findings) - SHOWN} more" if len(findings) > SHOWN else ""
    return f"{len(findings)} problems: {shown}{suffix}"


def notes_of(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Summarize warnings and notes, one sentence for each group."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        if finding.severity != "error":
            groups.setdefault((finding.code, finding.group or finding.text), []).append(finding)
    return tuple(_group_note(code, text, members) for (code, text), members in groups.items())


def _group_note(code: str, text: str, findings: list[Finding]) -> str:
    paths = [f.path for f in findings if f.path]
    if not paths:
        return f"{code} {text}"
    return f"{code} {text}: {count_paths(paths)}"


def first_names(names: Sequence[str]) -> str:
    """Join the first five names and count the others.

    >>> first_names(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    """
    suffix = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + suffix


def count_paths(paths: Sequence[str]) -> str:
    """Format the count and the first of some paths.

    >>> count_paths(["a.jpg", "b.jpg"])
    '2 (a.jpg ...)'
    """
    return f"{len(paths)} ({paths[0]}{' ...' if len(paths) > 1 else ''})"
