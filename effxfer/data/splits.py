"""Deterministic, stratified splits that depend on the seed and on the images' content, not on names or order.

Equal images always share a split, domains are spread evenly, and every class keeps at least one training image.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from effxfer.data.listing import SPLITS, Finding, Item
from effxfer.data.settings import DataSettings

Before = Callable[[Item], str]


class Assigned(NamedTuple):
    """Items with a split each, and what was decided on the way.

    Attributes:
        items: Those that are used.
        findings: What a user should know of it.
        every: The items before few-label settings left some out.
    """

    items: list[Item]
    findings: list[Finding]
    every: Sequence[Item] = ()


def assign(items: Sequence[Item], settings: DataSettings, before: Before = lambda _item: "") -> Assigned:
    """Give every item a split.

    * train, val and test are given: kept.
    * only train and val: val is cut in half, stratified, with the fixed seed 0.
    * only train and test: val is cut off train.
    * only train, or no splits: val and test are cut off.

    What was in a split before stays there; then new images of the class are put by their own content, so that no other
    image moves.

    Args:
        items: With `sha256`; either all have a split or none has.
        settings: Fractions, seed and `max_per_class`.
        before: Gives the split that an image had in an earlier stage, or nothing.
    """
    given = {item.split for item in items} - {""}
    if not items or given >= set(SPLITS):
        cut = Assigned(list(items), [])
    elif "val" in given:
        cut = _cut(items, "val", {"val": 0.5, "test": 0.5}, 0, "no test split: val was cut in half", before)
    elif "test" in given:
        shares = {"train": 1 - settings.val_fraction, "val": settings.val_fraction}
        cut = _cut(items, "train", shares, settings.split_seed, "no val split: taken from train", before)
    else:
        held = settings.val_fraction + settings.test_fraction
        shares = {"train": 1 - held, "val": settings.val_fraction, "test": settings.test_fraction}
        what = "no val and test splits: taken from all"
        cut = _cut(items, next(iter(given), ""), shares, settings.split_seed, what, before)
    return _fewer(cut, settings)._replace(every=cut.items)


def order_key(seed: int | str, content: str) -> str:
    """Give a pseudo-random sorting key of a content."""
    return hashlib.sha256(f"{seed}:{content}".encode()).hexdigest()


def spread(items: Iterable[Item], seed: int | str) -> list[str]:
    """Order the distinct contents of one class pseudo-randomly, each domain evenly spread over the order."""
    domains = defaultdict(set)
    for item in items:
        domains[item.domain].add(item.sha256)
    placed = []
    for domain, contents in domains.items():
        ordered = sorted(contents, key=lambda content: order_key(seed, content))
        placed += [((rank + 0.5) / len(ordered), domain, content) for rank, content in enumerate(ordered)]
    return list(dict.fromkeys(content for _, _, content in sorted(placed)))


def shared_out(count: int, shares: dict[str, float]) -> dict[str, int]:
    """Share `count` out by largest remainder; each share gets at least one, the first ones first.

    >>> shared_out(10, {"train": 0.8, "val": 0.1, "test": 0.1})
    {'train': 8, 'val': 1, 'test': 1}
    >>> shared_out(2, {"train": 0.8, "val": 0.1, "test": 0.1})
    {'train': 1, 'val': 1, 'test': 0}
    """
    counts = {name: int(count * share + 1e-9) for name, share in shares.items()}
    rest = sorted(shares, key=lambda name: counts[name] - count * shares[name])
    for name in rest[: count - sum(counts.values())]:
        counts[name] += 1
    for name in list(shares)[:count]:
        if not counts[name]:
            counts[max(counts, key=lambda other: counts[other])] -= 1
            counts[name] = 1
    return counts


def _cut(
    items: Sequence[Item], source: str, shares: dict[str, float], seed: int, what: str, before: Before
) -> Assigned:
    by_class = defaultdict(list)
    for item in items:
        if item.split == source:
            by_class[item.label].append(item)
    places: dict[str, str] = {}
    old = {item.sha256: split for item in items if item.split == source and (split := before(item)) in shares}
    for label in sorted(by_class):
        contents = [c for c in spread(by_class[label], seed) if c not in places]
        places |= (
            _grown(contents, label, shares, seed, old) if old.keys() & set(contents) else _ranked(contents, shares)
        )
    done = [i._replace(split=places[i.sha256]) if i.split == source else i for i in items]
    return Assigned(done, [_told(done, seed, what), *_too_few(done, by_class, source, shares)])


def _ranked(contents: Sequence[str], shares: dict[str, float]) -> dict[str, str]:
    counts = shared_out(len(contents), shares)
    return dict(zip(contents, (name for name in shares for _ in range(counts[name])), strict=True))


def _grown(
    contents: Iterable[str], label: str, shares: dict[str, float], seed: int, old: Mapping[str, str]
) -> dict[str, str]:
    """Leave contents where they were, and put each new one where its own digest points to."""
    return {c: old[c] if c in old else _pointed(order_key(f"{seed}:{label}", c), shares) for c in contents}


def _pointed(key: str, shares: dict[str, float]) -> str:
    left = int(key[:13], 16) / 16**13
    for name, share in shares.items():
        left -= share
        if left < 0:
            return name
    return next(iter(shares))


def _told(items: Sequence[Item], seed: int, what: str) -> Finding:
    counts = Counter(item.split for item in items)
    sizes = ", ".join(f"{name} {counts[name]}" for name in SPLITS)
    text = f"{what} with seed {seed}, by class ({sizes})"
    return Finding(code="W339", severity="note", path="", text=text)


def _too_few(
    items: Sequence[Item], by_class: dict[str, list[Item]], source: str, shares: dict[str, float]
) -> list[Finding]:
    have = {(item.label, item.split) for item in items}
    missing = {label: [name for name in shares if (label, name) not in have] for label in sorted(by_class)}
    return [_lacking(by_class[label], names, source, shares) for label, names in missing.items() if names]


def _lacking(members: list[Item], missing: list[str], source: str, shares: dict[str, float]) -> Finding:
    n, label = len({item.sha256 for item in members}), members[0].label
    if n < 2 and "train" in shares:
        text = f"class {label!r} has {n} distinct image, which cannot be split"
        hint = "add images, or give train, val and test folders"
        return Finding(code="E313", severity="error", path=members[0].path, text=text, hint=hint)
    text = f"class {label!r} has {n} distinct images in {source or 'all'}: none in {' and '.join(missing)}"
    return Finding(code="W313", severity="warning", path="", text=text)


def _fewer(cut: Assigned, settings: DataSettings) -> Assigned:
    limit, train = settings.max_per_class, [item for item in cut.items if item.split == "train"]
    if limit is None:
        return cut
    by_class = defaultdict(list)
    for item in sorted(train, key=lambda item: item.path):
        by_class[item.label].append(item)
    kept = [item for members in by_class.values() for item in _first(members, limit, settings.split_seed)]
    text = f"max_per_class = {limit}: {len(kept)} of {len(train)} training images kept"
    note = Finding(code="W339", severity="note", path="", text=text)
    return Assigned([item for item in cut.items if item.split != "train"] + kept, [*cut.findings, note])


def _first(members: list[Item], limit: int, seed: int) -> list[Item]:
    """Give one item for each of the first `limit` contents of a class."""
    one = {item.sha256: item for item in reversed(members)}
    return [one[content] for content in spread(members, f"few-{seed}")[:limit]]
