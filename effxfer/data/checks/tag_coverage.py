"""Check tags of words across splits: tags that a split lacks."""

import json
from collections.abc import Sequence

from effxfer.data.listing import SPLITS, Finding, Item, first_names


def find_tag_gaps(items: Sequence[Item]) -> list[Finding]:
    """Warn (W313) about tags that a split has and train lacks, or the other way round.

    Args:
        items: With their final split, and JSON lists of tags as labels.
    """
    tags = {split: read_tags(items, split) for split in SPLITS}
    pairs = [
        (split, other) for held_out in ("val", "test") for split, other in ((held_out, "train"), ("train", held_out))
    ]
    return [
        Finding(
            code="W313", severity="warning", path="",
            text=f"tags of {split} that {other} lacks: {first_names(sorted(missing))}",
        )
        for split, other in pairs
        if tags[split] and tags[other] and (missing := tags[split] - tags[other])
    ]  # fmt: skip


def read_tags(items: Sequence[Item], split: str) -> set[str]:
    """Return the tags of one split."""
    # Most sentences have the same tags as others: each label is read once.
    labels = {item.label for item in items if item.split == split}
    return {tag for label in labels for tag in json.loads(label)}
