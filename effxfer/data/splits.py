"""Split images deterministically and stratified, by the seed and the images' content, not by names or order.

Equal images always share a split, domains are spread evenly, and every class has at least one training image. Images of
several labels are one stratum; those of values are stratified by the first value.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from effxfer.data.labels.strata import STRATIFIED_BY, cover_labels, stratify
from effxfer.data.listing import SPLITS, Finding, Item, LabelKind
from effxfer.data.settings import DataSettings

EarlierSplit = Callable[[Item], str]


class Assignment(NamedTuple):
    """Items with their splits.

    Attributes:
        items: The items in use.
        findings: Notes and problems for the user.
        all_items: The items before `max_per_class` excluded some.
    """

    items: list[Item]
    findings: list[Finding]
    all_items: Sequence[Item] = ()


class SplitPlan(NamedTuple):
    """Which images get other splits, in which shares.

    Attributes:
        source: Their present split; empty for none.
        shares: The share of each new split.
        seed: Seed of the order in which contents are placed.
        text: What the source lacks, for a note.
    """

    source: str
    shares: dict[str, float]
    seed: int
    text: str


def assign(
    items: Sequence[Item], settings: DataSettings, earlier_split: EarlierSplit = lambda _item: "", unit: str = "image"
) -> Assignment:
    """Assign a split to every item.

    * The source has train, val and test: they are used unchanged.
    * Only train and val: val is halved, stratified, with the fixed seed 0.
    * Only train and test: val is split off train.
    * Only train, or no splits: val and test are split off.

    An image of an earlier stage stays in its split. New images of its class are then placed by their own content, so
    no other image moves.

    Args:
        items: With `sha256`; either all have a split or none has.
        settings: Fractions, seed and `max_per_class`.
        earlier_split: Returns the split that an image had in an earlier stage, or an empty text.
        unit: What an item is, in the singular.
    """
    present = {item.split for item in items} - {""}
    if not items or present >= set(SPLITS):
        assignment = Assignment(list(items), [])
    else:
        assignment = _split_off(items, settings.labels, _plan(present, settings), earlier_split, unit)
    return _limit_per_class(assignment, settings, unit)._replace(all_items=assignment.items)


def _plan(present: Collection[str], settings: DataSettings) -> SplitPlan:
    seed, val, test = settings.split_seed, settings.val_fraction, settings.test_fraction
    # Train stays as its maker cut it; the halves are the same for every `split_seed`.
    if "val" in present:
        return SplitPlan("val", {"val": 0.5, "test": 0.5}, 0, "no test split: val was cut in half")
    if "test" in present:
        return SplitPlan("train", {"train": 1 - val, "val": val}, seed, "no val split: taken from train")
    shares = {"train": 1 - (val + test), "val": val, "test": test}
    return SplitPlan(next(iter(present), ""), shares, seed, "no val and test splits: taken from all")


def order_key(seed: int | str, content: str) -> str:
    """Return a pseudo-random sorting key of a content digest."""
    return hashlib.sha256(f"{seed}:{content}".encode()).hexdigest()


def spread_domains(items: Iterable[Item], seed: int | str) -> list[str]:
    """Order the distinct contents of one class pseudo-randomly, each domain evenly spread over the order."""
    domains = defaultdict(set)
    for item in items:
        domains[item.domain].add(item.sha256)
    placed = []
    for domain, contents in domains.items():
        ordered = sorted(contents, key=lambda content: order_key(seed, content))
        # The middle of each domain's n-th parts: any run of this order then has all domains in proportion.
        placed += [((rank + 0.5) / len(ordered), domain, content) for rank, content in enumerate(ordered)]
    return list(dict.fromkeys(content for _, _, content in sorted(placed)))


def largest_remainder(count: int, shares: dict[str, float]) -> dict[str, int]:
    """Apportion `count` by the largest-remainder method; each share gets at least one, in their order.

    >>> largest_remainder(10, {"train": 0.8, "val": 0.1, "test": 0.1})
    {'train': 8, 'val': 1, 'test': 1}
    >>> largest_remainder(2, {"train": 0.8, "val": 0.1, "test": 0.1})
    {'train': 1, 'val': 1, 'test': 0}
    >>> largest_remainder(2, {"train": 0.4, "val": 0.2, "test": 0.4})
    {'train': 1, 'val': 1, 'test': 0}
    """
    # 100 * 0.29 is 28.999... in float64; far below one image.
    counts = {name: int(count * share + 1e-9) for name, share in shares.items()}
    # The largest lack first.
    ranked = sorted(shares, key=lambda name: counts[name] - count * shares[name])
    for name in ranked[: count - sum(counts.values())]:
        counts[name] += 1
    # Of n images the first n shares get one each: train before val before test.
    for name in list(shares)[:count]:
        if not counts[name]:
            largest = max(counts, key=lambda candidate: counts[candidate])
            # Where no share has two, the last one gives: those before it are filled first.
            counts[largest if counts[largest] > 1 else next(n for n in reversed(counts) if counts[n])] -= 1
            counts[name] = 1
    return counts


def _split_off(
    items: Sequence[Item], kind: LabelKind, plan: SplitPlan, earlier_split: EarlierSplit, unit: str
) -> Assignment:
    source, shares, seed, text = plan
    members, placed = [item for item in items if item.split == source], dict[str, str]()
    earlier = {item.sha256: split for item in members if (split := earlier_split(item)) in shares}
    # Values have other tenths once there are more images: beside earlier ones, a new image goes by its digest alone.
    strata = {"": members} if kind == "value" and earlier else stratify(kind, members, min(shares.values()))
    for stratum in sorted(strata):
        # A content that a class before this one placed stays there: equal images share a split, whatever their labels.
        contents = [c for c in spread_domains(strata[stratum], seed) if c not in placed]
        placed |= (
            _split_by_digest(contents, stratum, shares, seed, earlier)
            if earlier.keys() & set(contents)
            else _split_by_rank(contents, shares)
        )
    if kind == "multi":
        placed = cover_labels(placed, members, tuple(shares), earlier)
    assigned = [i._replace(split=placed[i.sha256]) if i.split == source else i for i in items]
    note = _split_note(assigned, f"{text} with seed {seed}, by {STRATIFIED_BY[kind]}")
    missing = _missing_findings(assigned, strata, plan, unit) if kind == "single" else []
    return Assignment(assigned, [note, *missing])


def _split_by_rank(contents: Sequence[str], shares: dict[str, float]) -> dict[str, str]:
    counts = largest_remainder(len(contents), shares)
    return dict(zip(contents, (name for name in shares for _ in range(counts[name])), strict=True))


def _split_by_digest(
    contents: Iterable[str], label: str, shares: dict[str, float], seed: int, earlier: Mapping[str, str]
) -> dict[str, str]:
    """Keep contents in their earlier split, and place each new one by its own digest."""
    return {c: earlier[c] if c in earlier else _digest_split(order_key(f"{seed}:{label}", c), shares) for c in contents}


def _digest_split(key: str, shares: dict[str, float]) -> str:
    # 13 hex digits are 52 bits: exact in float64.
    position = int(key[:13], 16) / 16**13
    for name, share in shares.items():
        position -= share
        if position < 0:
            return name
    # Where the shares add up to a rounding less than 1.
    return next(iter(shares))


def _split_note(items: Sequence[Item], text: str) -> Finding:
    counts = Counter(item.split for item in items)
    sizes = ", ".join(f"{name} {counts[name]}" for name in SPLITS)
    return Finding(code="W339", severity="note", path="", text=f"{text} ({sizes})")


def _missing_findings(
    items: Sequence[Item], by_class: dict[str, list[Item]], plan: SplitPlan, unit: str
) -> list[Finding]:
    present = {(item.label, item.split) for item in items}
    missing = {label: [name for name in plan.shares if (label, name) not in present] for label in sorted(by_class)}
    return [_missing_finding(by_class[label], names, plan, unit) for label, names in missing.items() if names]


def _missing_finding(members: list[Item], missing: list[str], plan: SplitPlan, unit: str) -> Finding:
    n, label = len({item.sha256 for item in members}), members[0].label
    if n < 2 and "train" in plan.shares:
        text = f"class {label!r} has {n} distinct {unit}, which cannot be split"
        hint = f"add {unit}s, or give train, val and test {'folders' if unit == 'image' else 'files'}"
        return Finding(code="E313", severity="error", path=members[0].path, text=text, hint=hint)
    text = f"class {label!r} has {n} distinct {unit}s in {plan.source or 'all'}: none in {' and '.join(missing)}"
    return Finding(code="W313", severity="warning", path="", text=text)


def _limit_per_class(assignment: Assignment, settings: DataSettings, unit: str) -> Assignment:
    limit, train = settings.max_per_class, [item for item in assignment.items if item.split == "train"]
    if limit is None:
        return assignment
    by_class = defaultdict(list)
    for item in sorted(train, key=lambda item: item.path):
        by_class[item.label].append(item)
    selected = [item for members in by_class.values() for item in _first_contents(members, limit, settings.split_seed)]
    text = f"max_per_class = {limit}: {len(selected)} of {len(train)} training {unit}s selected"
    note = Finding(code="W339", severity="note", path="", text=text)
    return Assignment(
        [item for item in assignment.items if item.split != "train"] + selected, [*assignment.findings, note]
    )


def _first_contents(members: list[Item], limit: int, seed: int) -> list[Item]:
    """Return one item for each of the first `limit` contents of a class."""
    # Reversed, so that the first path of each content stays.
    representative = {item.sha256: item for item in reversed(members)}
    # Another order than the splits' own, of which train is the beginning.
    return [representative[content] for content in spread_domains(members, f"few-{seed}")[:limit]]
