"""Audit vectors before training: repeats, constant columns, and columns of another range in other splits.

Findings are `E363` NaN or infinity, `W360` constant columns, `W361` vectors several times in one split, and `W362`
columns that reach far beyond the training split's range.
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from effxfer.data.listing import SPLITS, Finding, Listing, first_names

# Chosen: of normal numbers one in 10^23 is that far out; a column in another unit is.
DEVIATIONS = 10


def audit_vectors(listing: Listing) -> list[Finding]:
    """Check the vectors of a listing that have their final splits.

    `E320`, the same vector in two splits, and `W336`, one with two labels, are among the listing's own findings.
    """
    assert listing.vectors is not None
    rows = {split: _rows(listing, split) for split in SPLITS}
    return [*_find_constant(rows["train"]), *_find_far(rows), *_find_repeated(listing)]


def _rows(listing: Listing, split: str) -> NDArray[np.float32]:
    assert listing.vectors is not None
    return listing.vectors[[place for place, item in enumerate(listing.everything) if item.split == split]]


def _find_constant(train: NDArray[np.float32]) -> list[Finding]:
    constant = np.flatnonzero((train == train[:1]).all(0)) if len(train) else np.empty(0, np.int64)
    if not len(constant):
        return []
    text = f"{len(constant)} of {train.shape[1]} columns are constant in train: {first_names([*map(str, constant)])}"
    hint = "leave them out, unless they vary in use"
    return [Finding(code="W360", severity="warning", path="", text=text, hint=hint)]


def _find_far(rows: Mapping[str, NDArray[np.float32]]) -> list[Finding]:
    """Warn about columns whose mean in another split is far from the training split's (W362)."""
    train, findings = rows["train"], []
    if not len(train):
        return []
    mean, deviation = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    for split in ("val", "test"):
        if not len(rows[split]):
            continue
        distance = np.abs(rows[split].mean(0, dtype=np.float64) - mean)
        far = np.flatnonzero((deviation > 0) & (distance > DEVIATIONS * deviation))
        if len(far):
            text = f"{len(far)} columns have another mean in {split}, by over {DEVIATIONS} deviations of train: "
            text += first_names([*map(str, far)])
            hint = "use one unit in all splits"
            findings.append(Finding(code="W362", severity="warning", path="", text=text, hint=hint))
    return findings


def _find_repeated(listing: Listing) -> list[Finding]:
    counts = Counter((item.split, item.sha256) for item in listing.items)
    repeated = Counter(split for (split, _), count in counts.items() if count > 1)
    return [
        Finding(code="W361", severity="warning", path="", text=f"{number} vectors occur several times in {split}")
        for split, number in sorted(repeated.items())
    ]
