"""Record the splits of the images that a network was trained and evaluated on, so that later stages keep them.

Contents and paths are stored as digests, so the file reveals nothing about the images.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from effxfer.data.listing import SPLITS, Finding, Item, Listing, Severity
from effxfer.data.texts.examples import shared_key
from effxfer.errors import ModelFileError

SPLITS_FILE = "splits.json"
# Hex digits: 64 bits of a content, of which two of a million agree once in 4e7. 32 bits of a path are only counted.
CONTENT, PATH = 16, 8
# Chosen: with half of the images known, they are surely the network's data and need no name in the note.
FEW = 0.5
TABLES_HINT = (
    "name the table with splits of its own first, give both the same splits, or pass `data.allow_leakage=true`"
)


@dataclass(frozen=True, kw_only=True)
class Record:
    """The splits of one data set in one stage.

    Attributes:
        name: Name of the task.
        digest: Digest of the task.
        images: By split, a digest of the content and of the path of each image; empty if they are unknown.
    """

    name: str
    digest: str
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def contents(self) -> dict[str, str]:
        """Digests of contents by digests of paths."""
        return {code[CONTENT:]: code[:CONTENT] for images in self.images.values() for code in images}


@dataclass(frozen=True)
class History:
    """The records of all stages of a network, the last one first.

    Attributes:
        records: One for each data set of each stage.
        keeps_classes: Whether the network keeps the classes of earlier tasks, so that a new one may have a single one.
        tables: Other data tables of the same stage, whose tasks share the network.
    """

    records: tuple[Record, ...] = ()
    keeps_classes: bool = False
    tables: tuple[Listing, ...] = ()

    @cached_property
    def splits(self) -> dict[str, str]:
        """The split of every content; an image that was trained on in any stage counts as `train`."""
        return _splits_of(self.records)

    @cached_property
    def splits_of_tables(self) -> dict[str, str]:
        """The split of every content in the other tables."""
        return _splits_of([_record_of_table(listing) for listing in self.tables])

    def split_of(self, item: Item, shared: str = "") -> str:
        """Return the split that the content of an example had, or has in another table; empty if it is new.

        Args:
            item: The example.
            shared: The digest by which tables are compared, of a text `shared_key`; empty for that of the item.
        """
        in_tables = (shared or item.sha256)[:CONTENT]
        return self.splits.get(item.sha256[:CONTENT], "") or self.splits_of_tables.get(in_tables, "")

    def with_table(self, listing: Listing) -> "History":
        """Return the history for the next table of a stage, whose images keep the splits that they have in this one."""
        return replace(self, tables=(*self.tables, listing))

    def with_records(self, records: Iterable[Record]) -> "History":
        """Return the history after a stage with these records; earlier records that they cover are dropped."""
        latest = History(tuple(records))
        remaining = [record for record in self.records if not _is_covered(record, latest)]
        return History((*latest.records, *remaining), self.keeps_classes)


NONE = History()


def _splits_of(records: Iterable[Record]) -> dict[str, str]:
    splits: dict[str, str] = {}
    # `train` last, so that it wins: an image that was trained on once can never be held out again.
    for split in reversed(SPLITS):
        splits |= {code[:CONTENT]: split for record in records for code in record.images.get(split, ())}
    return splits


def _record_of_table(listing: Listing) -> Record:
    """Record the splits of a table; texts by what a table of words and one of whole texts have in common."""
    shared = {path: shared_key(text) for path, text in listing.texts.items()}
    items = tuple(item._replace(sha256=shared.get(item.path, item.sha256)) for item in listing.assigned)
    return record_of(replace(listing, assigned=items))


def record_of(listing: Listing) -> Record:
    """Record the splits of a listing, without its target."""
    images = {split: tuple(sorted(_image_code(i) for i in listing.assigned if i.split == split)) for split in SPLITS}
    return Record(name=listing.name, digest=listing.key, images=images)


def write_history(file: Path, history: History) -> None:
    """Write a history into the folder of a result."""
    rows = [{"name": r.name, "digest": r.digest, "images": dict(r.images)} for r in history.records]
    file.write_text(json.dumps({"schema": 1, "records": rows}) + "\n")


def read_history(file: Path) -> History:
    """Read a file of `write_history`.

    Raises:
        ModelFileError: If the file is damaged.
    """
    try:
        rows = json.loads(file.read_text())["records"]
        return History(
            tuple(
                Record(
                    name=str(row["name"]), digest=str(row["digest"]),
                    images={split: tuple(map(str, row["images"].get(split, ()))) for split in SPLITS},
                )
                for row in rows
            )
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{file} is damaged: {error}", "run the stage again with `force`", code="E404") from None


def find_trained_before(items: Iterable[Item], history: History, severity: Severity) -> list[Finding]:
    """List the held-out images that an earlier stage was trained on (E320)."""
    text = "trained on by an earlier stage, and held out now"
    hint = "put it back, or pass `data.allow_leakage=true` and expect figures that are too good"
    return [
        Finding(code="E320", severity=severity, path=item.path, text=text, hint=hint)
        for item in items
        if item.split in ("val", "test") and history.splits.get(item.sha256[:CONTENT]) == "train"
    ]


def find_leaks_between_tables(items: Iterable[Item], history: History, severity: Severity) -> list[Finding]:
    """List the images that are in another split of another table, whose task shares the network (E320)."""
    findings = list[Finding]()
    for item in items:
        split = history.splits_of_tables.get(item.sha256[:CONTENT], item.split)
        if split != item.split:
            group = f"same content in {split} of another task and in {item.split} of this one, and they share a network"
            findings.append(
                Finding(code="E320", severity=severity, path=item.path, text=group, hint=TABLES_HINT, group=group)
            )
    return findings


def describe_difference(listing: Listing, history: History, source: str) -> list[Finding]:
    """Note how the images differ from the network's earlier ones (W340); nothing if they have none in common."""
    current = record_of(listing)
    if not history.records or any(record.digest == current.digest for record in history.records):
        return []
    former = max(history.records, key=lambda record: (_count_shared(record, current), record.name == current.name))
    if not _count_shared(former, current) and former.name != current.name:
        return []
    text = (
        _describe_changes(former, current, listing.unit)
        if former.images
        else f"changed since the network was made, which does not say by which {listing.unit}"
    )
    suffix = (
        ""
        if _count_shared(former, current) > FEW * len(current.contents)
        else f": {source} was used; --data names another"
    )
    return [Finding(code="W340", severity="note", path="", text=f"data {text}{suffix}")] if text else []


def _describe_changes(former: Record, current: Record, units: str) -> str:
    old, new = former.contents, current.contents
    earlier = set(old.values())
    added = sum(path not in old and content not in earlier for path, content in new.items())
    present = set(new.values())
    removed = sum(path not in new and content not in present for path, content in old.items())
    changed = sum(path in old and old[path] != content for path, content in new.items())
    if not (added or removed or changed):
        return ""
    counts = f"{added} {units} new, {removed} gone, {changed} changed"
    return f"not as they were when the network was made: {counts}; what was trained on stays in train"


def _count_shared(first: Record, second: Record) -> int:
    return len(set(first.contents.values()) & set(second.contents.values()))


def _is_covered(record: Record, history: History) -> bool:
    """Whether a history has the same split for every image of a record."""
    return all(
        history.splits.get(code[:CONTENT]) == split for split, images in record.images.items() for code in images
    )


def _image_code(item: Item) -> str:
    return item.sha256[:CONTENT] + hashlib.sha256(item.path.encode("utf-8", "surrogateescape")).hexdigest()[:PATH]
