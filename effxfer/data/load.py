"""From data settings to a task: list, split and digest without decoding; then decode once into a mapped cache."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.data.checks.enough import need_validation, thin
from effxfer.data.checks.leaks import class_gaps, contradictions, leaks, lopsided
from effxfer.data.checks.unread import emptied, unread
from effxfer.data.decoded.cache import Entry, open_or_build
from effxfer.data.decoded.decode import KINDS, decode_item
from effxfer.data.decoded.decode_cache import DecodePlan
from effxfer.data.history import NONE, History, difference, record_of, trained_before
from effxfer.data.listing import (
    SHOWN,
    SPLITS,
    TABLES,
    UNLABELLED,
    Finding,
    Found,
    Item,
    Listing,
    Severity,
    counted,
    notes_of,
    raise_errors,
)
from effxfer.data.settings import DataSettings
from effxfer.data.sources.builtin import read_builtin
from effxfer.data.sources.file_hashes import content_digests, default_cache, keep_outside
from effxfer.data.sources.folder import read_folder
from effxfer.data.sources.table import read_table
from effxfer.data.sources.unlabelled import without_labels
from effxfer.data.splits import assign
from effxfer.data.target import aim, aimed_at
from effxfer.data.task import Split, Task
from effxfer.errors import DataError
from effxfer.files import digest
from effxfer.runtime.images.formats import byte_limit
from effxfer.runtime.images.preprocess import ImageError, Preprocess


def scan(settings: DataSettings, base: Path = Path(), *, cache: Path | None = None, history: History = NONE) -> Listing:
    """List files, labels and splits, and digest them, without decoding an image.

    Args:
        settings: What to list.
        base: Folder that a relative source starts from.
        cache: Where digests of unchanged files are remembered; None is `$EFFXFER_CACHE` or `~/.cache/effxfer`.
        history: What the network was trained on before: its splits hold.

    Raises:
        DataError: If the layout, the table or the splits have errors: `E310` to `E337`.
        ResourceError: If a package that the source needs is not installed.
    """
    listing = survey(settings, base, cache=cache, history=history)
    raise_errors(listing.findings, settings.source)
    if settings.target is not None:
        listing = aimed_at(listing, scan(settings.target, base, cache=cache, history=history), settings)
    findings = (*listing.findings, *difference(listing, history, settings.source))
    return replace(listing, findings=findings, notes=notes_of(findings))


def survey(
    settings: DataSettings, base: Path = Path(), *, cache: Path | None = None, history: History = NONE
) -> Listing:
    """List as `scan` does, but keep errors as findings instead of stopping at them.

    Raises:
        DataError: Only if there is nothing to list: no such source, or a table that cannot be read.
        SettingsError: If the cache lies inside the folder.
        ResourceError: As `scan`.
    """
    root, found = _source(settings, base)
    keep_outside(cache or default_cache(), settings.source, base)
    hashed, unreadable = _with_digests(root, found.items, cache or default_cache(), settings)
    items, decided, every = assign(hashed, settings, history.of)
    items.sort()
    free, about = without_labels(hashed, items, settings, base, root, cache or default_cache())
    classes = tuple(sorted({item.label for item in items}))
    severity: Severity = "warning" if settings.allow_leakage else "error"
    findings = (
        *found.findings,
        *unreadable,
        *_single_class(classes, found.findings),
        *class_gaps(hashed, settings),
        *decided,
        *thin(items),
        *about,
        *contradictions(items),
        *lopsided(items),
        *leaks(items, {i.path: i.sha256 for i in items}, "same file", severity),
        *trained_before(items, history, severity),
    )
    return Listing(
        name=settings.name or Path(settings.source).stem,
        root=root,
        classes=classes,
        items=tuple(items),
        findings=findings,
        notes=notes_of(findings),
        digest=digest([[i.path, i.sha256, i.label, i.split] for i in (*items, *free)]),
        unlabelled=free,
        assigned=tuple(every),
    )


def load(
    settings: DataSettings,
    preprocess: Preprocess,
    *,
    base: Path = Path(),
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    history: History = NONE,
    listing: Listing | None = None,
) -> Task:
    """Make a task: decoded once, then memory-mapped from the cache.

    Args:
        settings: Which images.
        preprocess: Size, crop and interpolation of the evaluation view, as the backbone expects them.
        base: Folder that a relative source starts from.
        cache: Where decoded images are kept; None is `$EFFXFER_CACHE` or `~/.cache/effxfer`.
        progress: Called with images decoded so far and in all; not called if the cache holds them.
        history: As in `scan`.
        listing: What `scan` gave for the same settings and history; None scans now.

    Raises:
        DataError: As `scan`; `E301` to `E307` for unreadable images unless `skip_bad`, with the first five;
            `E313` if leaving them out empties a class; `E322` if a file changes on the way.
        ResourceError: If there is no room for the images, neither in the cache nor elsewhere.
    """
    cache = cache or default_cache()
    listing = listing or scan(settings, base, cache=cache, history=history)
    plan = DecodePlan(listing, settings, preprocess, progress)
    entry = open_or_build(cache / "pixels" / plan.key(), plan.bytes_needed(), plan.build, plan.fits)
    _stop_at_bad(entry.facts["bad"], listing, settings)
    task = _task(listing, preprocess, entry, settings.max_pixels)
    need_validation(task)
    if settings.target is None:
        return task
    target = load(
        settings.target, preprocess, base=base, cache=cache, progress=progress, history=history, listing=listing.target
    )  # fmt: skip
    return aim(task, target, settings.target_classes)


def _source(settings: DataSettings, base: Path) -> tuple[Path | None, Found]:
    place = base / os.path.expanduser(settings.source)  # noqa: PTH111 (never raises)
    if not os.path.lexists(place) and "/" not in settings.source and not Path(settings.source).suffix:
        return None, read_builtin(settings.source)
    if not settings.source.lower().endswith(TABLES) or os.path.isdir(place):  # noqa: PTH112 (never raises)
        return place, read_folder(place, settings)
    root = _table_root(place, settings, base)
    return root, read_table(place, settings, root)


def _table_root(table: Path, settings: DataSettings, base: Path) -> Path:
    if settings.root is None:
        return table.parent
    root = base / os.path.expanduser(settings.root)  # noqa: PTH111 (never raises)
    if not os.path.isdir(root):  # noqa: PTH112 (never raises)
        raise DataError(f"data.root is {root}, which is no folder", "name the folder of the images", code="E310")
    return root


def _with_digests(
    root: Path | None, items: list[Item], cache: Path, settings: DataSettings
) -> tuple[list[Item], list[Finding]]:
    if root is None:
        return items, []
    limit = byte_limit(settings.max_pixels)
    hashed = content_digests(root, [item.path for item in items], cache, settings.workers, limit=limit)
    known = [i._replace(sha256=hashed.digests[i.path]) for i in items if i.path in hashed.digests]
    return known, [
        *unread(hashed.failures, settings),
        *emptied(sorted({item.label for item in items}), known),
    ]


def _single_class(classes: Sequence[str], findings: Sequence[Finding]) -> list[Finding]:
    if len(classes) != 1 or any(finding.code == "E312" for finding in findings):
        return []
    text, hint = f"need >= 2 classes, found only {classes[0]!r}", "put each class into a folder of its own"
    return [Finding(code="E312", severity="error", path="", text=text, hint=hint)]


def _stop_at_bad(bad: Sequence[Sequence[str]], listing: Listing, settings: DataSettings) -> None:
    if bad and not settings.skip_bad:
        shown = "; ".join(f"{path}: {code} {problem}" for path, code, problem in bad[:SHOWN])
        more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        share = f"{len(bad)} of {len(listing.everything)} images cannot be used"
        hint = "repair or remove them, or leave them out: `data.skip_bad=true`; `effxfer check` lists all"
        most = Counter(code for _, code, _ in bad).most_common(1)[0][0]
        raise DataError(f"{settings.source}: {share}: {shown}{more}", hint, code=most)
    lost = {path for path, _, _ in bad}
    raise_errors(emptied(listing.classes, listing.split("train"), lost), settings.source)


def _task(listing: Listing, preprocess: Preprocess, entry: Entry, max_pixels: int) -> Task:
    lost, number = {path for path, _, _ in entry.facts["bad"]}, {name: i for i, name in enumerate(listing.classes)}
    splits = {}
    for name in (*SPLITS, UNLABELLED) if listing.unlabelled else SPLITS:
        items = [item for item in listing.split(name) if item.path not in lost]
        splits[name] = Split(
            pixels=entry.arrays[f"{name}_pixels"],
            labels=np.array([number.get(item.label, -1) for item in items], np.int64),
            names=[item.path for item in items],
            canvas=entry.arrays.get(f"{name}_canvas"),
            aspect=entry.arrays.get(f"{name}_aspect"),
            whole=partial(_whole, listing.root, items, max_pixels),
            domains=[item.domain for item in items] if any(item.domain for item in items) else (),
        )
    return Task(
        name=listing.name,
        classes=listing.classes,
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        unlabelled=splits.get(UNLABELLED),
        preprocess=preprocess,
        digest=listing.key,
        records=(record_of(listing),),
        notes=(*listing.notes, *_decode_notes(entry.facts, len(listing.everything))),
    )


def _whole(root: Path | None, items: Sequence[Item], max_pixels: int, row: int) -> NDArray[np.uint8]:
    try:
        return np.asarray(decode_item(root, items[row], max_pixels).image)
    except ImageError as error:
        raise DataError(f"{items[row].path}: {error.problem}", error.hint, code=error.code) from None


def _decode_notes(facts: Mapping[str, Any], total: int) -> list[str]:
    bad, twins = [path for path, _, _ in facts["bad"]], [path for path, _ in facts["twins"]]
    lost = {"W385": f", {facts['lost']:.0%} in the median"}
    notes = [f"{code} {KINDS[code]}: {counted(paths)}{lost.get(code, '')}" for code, paths in facts["seen"].items()]
    if bad:
        notes.insert(0, f"left out, unreadable: {len(bad) / total:.1%} of all images: {counted(bad)}")
    if twins:
        notes.append(f"W320 same pixels in two splits: {counted(twins)}; `effxfer check` lists them")
    return notes
