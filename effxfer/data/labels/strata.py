"""What the splits of a data set have in common: strata of each kind of label, and labels that no split should lack.

Shape legend: M distinct contents, C labels.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from effxfer.data.listing import Item, LabelKind

# As in tables of statistics: tenths follow a distribution well, and leave each stratum enough images.
DECILES = 10
# What the strata are made by, for the note on the splits.
STRATIFIED_BY: dict[LabelKind, str] = {
    "single": "class", "multi": "content", "value": "tenths of the first value", "tags": "content", "span": "content",
    "none": "content", "tasks": "content",
}  # fmt: skip


def stratify(kind: LabelKind, items: Sequence[Item], smallest: float) -> dict[str, list[Item]]:
    """Group images into strata, each of which is split in the same proportions.

    Single labels have a stratum for each class; several labels, tags, answers and no labels one in all. Values have up
    to ten, between quantiles of the first value, each large enough for an image of the smallest split; images without
    that value are one more.

    Args:
        kind: Kind of label.
        items: The images to split.
        smallest: Smallest share of a split, in (0, 1).
    """
    strata = defaultdict(list)
    for item, stratum in zip(items, _strata(kind, items, smallest), strict=True):
        strata[stratum].append(item)
    return strata


def _strata(kind: LabelKind, items: Sequence[Item], smallest: float) -> Iterable[str]:
    if kind == "single":
        return (item.label for item in items)
    if kind != "value":
        return ("" for _ in items)
    first = np.array([item.label.partition(" ")[0] for item in items], np.float64)
    ordered = np.sort(first[~np.isnan(first)])
    count = int(min(DECILES, max(1, len(ordered) * smallest)))
    edges = ordered[np.arange(1, count) * len(ordered) // count]
    # NaN is placed behind all edges; equal values share a stratum.
    places = np.where(np.isnan(first), count, np.searchsorted(edges, first, side="right"))
    return (f"{place:02d}" for place in places)


def cover_labels(
    placed: Mapping[str, str], items: Iterable[Item], splits: Sequence[str], fixed: Collection[str]
) -> dict[str, str]:
    """Exchange few contents so that each label applies to an image of the first split, then of the second, and so on.

    A content may leave a split where all its labels stay, or one that comes later. Rare labels are first, because few
    contents can be exchanged for them.

    Args:
        placed: Splits by content, preferred contents first.
        items: The images, with several labels each.
        splits: Names of the splits, the most important first.
        fixed: Contents that stay where they are.

    Returns:
        Splits by content.
    """
    texts = {item.sha256: item.label for item in items}
    flags = np.array([np.frombuffer(texts[content].encode(), np.uint8) for content in placed])
    positive = np.ascontiguousarray(np.equal(flags.T, ord("1")))
    places = np.array([splits.index(split) for split in placed.values()])
    counts = np.array([positive[:, places == split].sum(1) for split in range(len(splits))])
    exchange = _Exchange(positive, places, counts, np.array([content not in fixed for content in placed]))
    for label in np.argsort(positive.sum(1), kind="stable").tolist():
        for split in range(len(splits)):
            exchange.cover(label, split)
    return {content: splits[place] for content, place in zip(placed, places, strict=True)}


@dataclass(frozen=True)
class _Exchange:
    """Contents that may change their splits.

    Attributes:
        positive: Labels that apply, `(C, M)`.
        places: Splits `(M,)`; changed in place.
        counts: Contents of each split that a label applies to, `(splits, C)`; changed in place.
        movable: Contents that may be moved `(M,)`.
    """

    positive: NDArray[np.bool_]
    places: NDArray[np.int64]
    counts: NDArray[np.int64]
    movable: NDArray[np.bool_]

    def cover(self, label: int, split: int) -> None:
        """Bring a content with a label into a split that lacks it, for one without; nothing if that is impossible."""
        if self.counts[split, label]:
            return
        rows = np.flatnonzero(self.positive[label] & self.movable)
        # The split that has most of the label gives one away.
        for row in sorted(rows, key=lambda row: -self.counts[self.places[row], label]):
            place = self.places[row]
            if place < split and not self._removable_rows(place)[row]:
                continue
            self._move(row, split)
            partners = np.flatnonzero(self._removable_rows(split) & ~self.positive[label])
            if len(partners):
                self._move(partners[0], place)
            elif place not in self.places:
                self._move(row, place)  # an empty split is worse than one without the label
                continue
            return

    def _move(self, row: np.intp, split: int) -> None:
        labels = self.positive[:, row]
        self.counts[self.places[row], labels] -= 1
        self.counts[split, labels] += 1
        self.places[row] = split

    def _removable_rows(self, split: int) -> NDArray[np.bool_]:
        """Return which contents may leave a split because other contents of it have all their labels, `(M,)`."""
        last = self.positive[self.counts[split] == 1].any(0)
        leaving: NDArray[np.bool_] = (self.places == split) & self.movable & ~last
        return leaving
