"""Load a task from data settings: list, split and digest the files, then decode them once into a mapped cache."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.data.checks.coverage import check_coverage
from effxfer.data.checks.enough import check_size, require_validation
from effxfer.data.checks.leaks import find_class_gaps, find_contradictions, find_imbalance, find_leaks
from effxfer.data.checks.unread import find_empty_classes, find_unreadable
from effxfer.data.decoded.cache import Entry, open_or_build
from effxfer.data.decoded.decode import KINDS, decode_item
from effxfer.data.decoded.decode_cache import DecodePlan
from effxfer.data.history import NONE, History, describe_difference, find_trained_before, record_of
from effxfer.data.labels.arrays import describe_label, label_array, output_of
from effxfer.data.listing import (
    SHOWN,
    SPLITS,
    UNLABELLED,
    Finding,
    Item,
    LabelKind,
    Listing,
    Severity,
    count_paths,
    notes_of,
    raise_errors,
)
from effxfer.data.settings import DataSettings
from effxfer.data.sources.file_hashes import content_digests, default_cache, require_cache_outside
from effxfer.data.sources.source import read_source
from effxfer.data.sources.unlabelled import list_unlabelled
from effxfer.data.splits import assign
from effxfer.data.target import attach_target, join_target
from effxfer.data.task import Split, Task, require_images
from effxfer.errors import DataError
from effxfer.files import digest
from effxfer.runtime.images.formats import byte_limit
from effxfer.runtime.images.preprocess import ImageError, Preprocess
from effxfer.runtime.inputs import Input


def scan(settings: DataSettings, base: Path = Path(), *, cache: Path | None = None, history: History = NONE) -> Listing:
    """List and digest files, labels and splits without decoding an image.

    Args:
        settings: Settings of the data set.
        base: Folder that a relative source starts from.
        cache: Folder with the digests of unchanged files; None for `$EFFXFER_CACHE` or `~/.cache/effxfer`.
        history: Splits of the network's earlier stages, which are kept.

    Raises:
        DataError: If the layout, the table or the splits have errors: `E310` to `E344`.
        ResourceError: If a package that the source needs is not installed.
    """
    listing = survey(settings, base, cache=cache, history=history)
    raise_errors(listing.findings, settings.source)
    if settings.target is not None:
        listing = join_target(listing, scan(settings.target, base, cache=cache, history=history), settings)
    findings = (*listing.findings, *describe_difference(listing, history, settings.source))
    return replace(listing, findings=findings, notes=notes_of(findings))


def survey(
    settings: DataSettings, base: Path = Path(), *, cache: Path | None = None, history: History = NONE
) -> Listing:
    """List like `scan`, but return errors as findings instead of raising them.

    Raises:
        DataError: Only if nothing can be listed: no such source, or an unreadable table.
        SettingsError: If the cache lies inside the folder.
        ResourceError: If a package that the source needs is not installed.
    """
    root, source = read_source(settings, base)
    require_cache_outside(cache or default_cache(), settings.source, base)
    # Digests before splits: equal files must share a split, whatever their names are.
    hashed, unreadable = _with_digests(root, source.items, cache or default_cache(), settings)
    items, split_findings, all_items = assign(hashed, settings, history.split_of)
    items.sort()
    # After the splits, from which `rest` takes what `max_per_class` left out.
    unlabelled, unlabelled_findings = list_unlabelled(hashed, items, settings, base, root, cache or default_cache())
    kind = settings.labels
    classes = source.classes or tuple(sorted({item.label for item in items}))
    severity: Severity = "warning" if settings.allow_leakage else "error"
    findings = (
        *source.findings,
        *unreadable,
        *(_single_class(classes, source.findings) if kind == "single" else ()),
        *find_class_gaps(hashed, settings),
        *split_findings,
        *check_size(items, kind),
        *unlabelled_findings,
        *find_contradictions(items, partial(describe_label, kind, classes=classes)),
        *(find_imbalance(items) if kind == "single" else check_coverage(items, kind, classes)),
        *find_leaks(items, {i.path: i.sha256 for i in items}, "same file", severity),
        *find_trained_before(items, history, severity),
    )
    return Listing(
        name=settings.name or Path(settings.source).stem,
        root=root,
        classes=classes,
        items=tuple(items),
        findings=findings,
        notes=notes_of(findings),
        digest=_digest_items((*items, *unlabelled), kind, classes),
        unlabelled=unlabelled,
        assigned=tuple(all_items),
        labels=kind,
    )


def _digest_items(items: Sequence[Item], kind: LabelKind, classes: Sequence[str]) -> str:
    # Without the root: moved data are the same data.
    rows = [[i.path, i.sha256, i.label, i.split] for i in items]
    # Texts of other kinds mean something only with the names of their columns.
    return digest(rows if kind == "single" else [kind, classes, rows])


def load(
    settings: DataSettings,
    input: Input,
    *,
    base: Path = Path(),
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    history: History = NONE,
    listing: Listing | None = None,
) -> Task:
    """Load a task: decode its images once, then memory-map them from the cache.

    Args:
        settings: Settings of the data set.
        input: Size, crop and interpolation of the evaluation view that the backbone expects.
        base: Folder that a relative source starts from.
        cache: Folder of decoded images; None for `$EFFXFER_CACHE` or `~/.cache/effxfer`.
        progress: Called with the number of decoded images and of all images, unless the cache holds them.
        history: Splits of the network's earlier stages, which are kept.
        listing: Result of `scan` for the same settings and history; None to scan now.

    Raises:
        DataError: If `scan` raises it; `E301` to `E307` for unreadable images unless `skip_bad`, with the first five;
            `E313` if a class has no readable image; `E322` if a file changes meanwhile.
        ResourceError: If neither the cache nor the temporary folder nor memory has room for the images.
    """
    preprocess = require_images(input, f"the data set {settings.source}")
    cache = cache or default_cache()
    listing = listing or scan(settings, base, cache=cache, history=history)
    # The listing whose digest is in the key is the one that is decoded.
    plan = DecodePlan(listing, settings, preprocess, progress)
    entry = open_or_build(cache / "pixels" / plan.key(), plan.bytes_needed(), plan.build, plan.fits)
    _raise_on_unreadable(entry.facts["bad"], listing, settings)
    task = _build_task(listing, preprocess, entry, settings.max_pixels)
    require_validation(task)
    if settings.target is None:
        return task
    target = load(
        settings.target, preprocess, base=base, cache=cache, progress=progress, history=history, listing=listing.target
    )  # fmt: skip
    return attach_target(task, target, settings.target_classes)


def _with_digests(
    root: Path | None, items: list[Item], cache: Path, settings: DataSettings
) -> tuple[list[Item], list[Finding]]:
    if root is None:
        return items, []
    limit = byte_limit(settings.max_pixels)
    hashed = content_digests(root, [item.path for item in items], cache, settings.workers, limit=limit)
    readable = [i._replace(sha256=hashed.digests[i.path]) for i in items if i.path in hashed.digests]
    unreadable = find_unreadable(hashed.failures, settings)
    if not items:
        return readable, unreadable
    return readable, [
        *unreadable,
        *find_empty_classes(sorted({item.label for item in items}), readable, kind=settings.labels),
    ]


def _single_class(classes: Sequence[str], findings: Sequence[Finding]) -> list[Finding]:
    if len(classes) != 1 or any(finding.code == "E312" for finding in findings):
        return []
    text, hint = f"need >= 2 classes, found only {classes[0]!r}", "put each class into a folder of its own"
    return [Finding(code="E312", severity="error", path="", text=text, hint=hint)]


def _raise_on_unreadable(bad: Sequence[Sequence[str]], listing: Listing, settings: DataSettings) -> None:
    if bad and not settings.skip_bad:
        shown = "; ".join(f"{path}: {error} {problem}" for path, error, problem in bad[:SHOWN])
        suffix = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        share = f"{len(bad)} of {len(listing.everything)} images cannot be used"
        hint = "repair or remove them, or leave them out: `data.skip_bad=true`; `effxfer check` lists all"
        code = Counter(error for _, error, _ in bad).most_common(1)[0][0]
        raise DataError(f"{settings.source}: {share}: {shown}{suffix}", hint, code=code)
    unreadable = {path for path, _, _ in bad}
    empty = find_empty_classes(listing.classes, listing.split("train"), unreadable, listing.labels)
    raise_errors(empty, settings.source)


def _build_task(listing: Listing, preprocess: Preprocess, entry: Entry, max_pixels: int) -> Task:
    unreadable, splits = {path for path, _, _ in entry.facts["bad"]}, {}
    for name in (*SPLITS, UNLABELLED) if listing.unlabelled else SPLITS:
        items = [item for item in listing.split(name) if item.path not in unreadable]
        splits[name] = Split(
            rows=entry.arrays[f"{name}_pixels"],
            labels=label_array(listing.labels, [item.label for item in items], listing.classes),
            names=[item.path for item in items],
            canvas=entry.arrays.get(f"{name}_canvas"),
            aspect=entry.arrays.get(f"{name}_aspect"),
            decode_row=partial(_decode_row, listing.root, items, max_pixels),
            domains=[item.domain for item in items] if any(item.domain for item in items) else (),
        )
    return Task(
        name=listing.name,
        output=output_of(listing.labels, listing.classes, splits["train"].labels),
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        unlabelled=splits.get(UNLABELLED),
        input=preprocess,
        digest=listing.key,
        records=(record_of(listing),),
        notes=(*listing.notes, *_decode_notes(entry.facts, len(listing.everything))),
    )


def _decode_row(root: Path | None, items: Sequence[Item], max_pixels: int, row: int) -> NDArray[np.uint8]:
    try:
        return np.asarray(decode_item(root, items[row], max_pixels).image)
    except ImageError as error:
        raise DataError(f"{items[row].path}: {error.problem}", error.hint, code=error.code) from None


def _decode_notes(facts: Mapping[str, Any], total: int) -> list[str]:
    bad, twins = [path for path, _, _ in facts["bad"]], [path for path, _ in facts["twins"]]
    details = {"W385": f", {facts['lost']:.0%} in the median"}
    notes = [
        f"{code} {KINDS[code]}: {count_paths(paths)}{details.get(code, '')}" for code, paths in facts["seen"].items()
    ]
    if bad:
        notes.insert(0, f"left out, unreadable: {len(bad) / total:.1%} of all images: {count_paths(bad)}")
    if twins:
        notes.append(f"W320 same pixels in two splits: {count_paths(twins)}; `effxfer check` lists them")
    return notes
