"""Which images a network was trained and judged on: kept beside it, so that its splits hold for later stages.

Contents and paths are there as digests: the file says nothing of the images themselves.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from effxfer.data.listing import SPLITS, Finding, Item, Listing, Severity
from effxfer.errors import ModelFileError

SPLITS_FILE = "splits.json"
CONTENT, PATH = 16, 8
FEW = 0.5


@dataclass(frozen=True, kw_only=True)
class Record:
    """The splits of one data set, as a stage had them.

    Attributes:
        name: The task's.
        digest: The task's.
        images: By split, a digest of the content and of the path of each image; empty where they are not known.
    """

    name: str
    digest: str
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def contents(self) -> dict[str, str]:
        """Digests of contents by those of paths."""
        return {one[CONTENT:]: one[:CONTENT] for images in self.images.values() for one in images}


@dataclass(frozen=True)
class History:
    """What all stages had that a network went through, the last one first."""

    records: tuple[Record, ...] = ()

    @cached_property
    def splits(self) -> dict[str, str]:
        """The split of every content; what was trained on once is of `train`, whatever else it was."""
        found: dict[str, str] = {}
        for split in reversed(SPLITS):
            found |= {one[:CONTENT]: split for record in self.records for one in record.images.get(split, ())}
        return found

    def of(self, item: Item) -> str:
        """Give the split that the content of an image had, or nothing."""
        return self.splits.get(item.sha256[:CONTENT], "")

    def after(self, records: Iterable[Record]) -> "History":
        """Put what a stage had before this; what that says again is left out."""
        own = History(tuple(records))
        left = [record for record in self.records if not _within(record, own)]
        return History((*own.records, *left))


NONE = History()


def record_of(listing: Listing) -> Record:
    """Note the splits of a listing, without those of its target."""
    images = {split: tuple(sorted(_code(i) for i in listing.assigned if i.split == split)) for split in SPLITS}
    return Record(name=listing.name, digest=listing.key, images=images)


def write_history(file: Path, history: History) -> None:
    """Write a history, for the folder of a result."""
    rows = [{"name": r.name, "digest": r.digest, "images": dict(r.images)} for r in history.records]
    file.write_text(json.dumps({"schema": 1, "records": rows}) + "\n")


def read_history(file: Path) -> History:
    """Read what `write_history` wrote.

    Raises:
        ModelFileError: If it is something else.
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


def trained_before(items: Iterable[Item], history: History, severity: Severity) -> list[Finding]:
    """List the held-out images that the network was trained on before (E320)."""
    text = "trained on by an earlier stage, and held out now"
    hint = "put it back, or pass `data.allow_leakage=true` and expect figures that are too good"
    return [
        Finding(code="E320", severity=severity, path=item.path, text=text, hint=hint)
        for item in items
        if item.split in ("val", "test") and history.of(item) == "train"
    ]


def difference(listing: Listing, history: History, source: str) -> list[Finding]:
    """Say how images differ from those that the network was made from, if they are not all others (W340)."""
    now = record_of(listing)
    if not history.records or any(record.digest == now.digest for record in history.records):
        return []
    then = max(history.records, key=lambda record: (_shared(record, now), record.name == now.name))
    if not _shared(then, now) and then.name != now.name:
        return []
    text = (
        _unlike(then, now) if then.images else "changed since the network was made, which does not say by which images"
    )
    where = "" if _shared(then, now) > FEW * len(now.contents) else f": {source} was used; --data names another"
    return [Finding(code="W340", severity="note", path="", text=f"data {text}{where}")] if text else []


def _unlike(then: Record, now: Record) -> str:
    old, new = then.contents, now.contents
    known = set(old.values())
    fresh = sum(path not in old and content not in known for path, content in new.items())
    present = set(new.values())
    gone = sum(path not in new and content not in present for path, content in old.items())
    other = sum(path in old and old[path] != content for path, content in new.items())
    if not (fresh or gone or other):
        return ""
    counts = f"{fresh} images new, {gone} gone, {other} changed"
    return f"not as they were when the network was made: {counts}; what was trained on stays in train"


def _shared(one: Record, other: Record) -> int:
    return len(set(one.contents.values()) & set(other.contents.values()))


def _within(record: Record, own: History) -> bool:
    """Whether nothing of a record would be forgotten without it."""
    return all(own.splits.get(one[:CONTENT]) == split for split, images in record.images.items() for one in images)


def _code(item: Item) -> str:
    return item.sha256[:CONTENT] + hashlib.sha256(item.path.encode("utf-8", "surrogateescape")).hexdigest()[:PATH]
