"""List the images of a source, and decode them once into a mapped cache."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer.data.checks.across_splits import check_items, find_single_class
from effxfer.data.checks.enough import check_size
from effxfer.data.checks.leaks import find_class_gaps
from effxfer.data.checks.unread import find_empty_classes, find_unreadable
from effxfer.data.decoded.cache import Entry, open_or_build
from effxfer.data.decoded.decode import KINDS, decode_item
from effxfer.data.decoded.decode_cache import DecodePlan
from effxfer.data.history import NONE, History, record_of
from effxfer.data.labels.tasks import listed_labels, listed_output
from effxfer.data.listing import (
    SHOWN,
    SPLITS,
    UNLABELLED,
    Finding,
    Item,
    LabelKind,
    Listing,
    count_paths,
    notes_of,
    raise_errors,
)
from effxfer.data.settings import DataSettings
from effxfer.data.sources.file_hashes import content_digests, require_cache_outside
from effxfer.data.sources.source import read_source
from effxfer.data.sources.unlabelled import list_unlabelled
from effxfer.data.splits import assign
from effxfer.data.task import Split, Task
from effxfer.errors import DataError
from effxfer.files import digest
from effxfer.runtime.images.formats import byte_limit
from effxfer.runtime.images.preprocess import ImageError, Preprocess


def survey_images(settings: DataSettings, base: Path, cache: Path, history: History = NONE) -> Listing:
    """List the images of a source without decoding any; see `load.survey`."""
    root, source = read_source(settings, base)
    require_cache_outside(cache, settings.source, base)
    # Digests before splits: equal files must share a split, whatever their names are.
    hashed, unreadable = _with_digests(root, source.items, cache, settings)
    items, split_findings, all_items = assign(hashed, settings, history.split_of)
    items.sort()
    # After the splits, from which `rest` takes what `max_per_class` left out.
    unlabelled, unlabelled_findings = list_unlabelled(hashed, items, settings, base, root, cache)
    kind = settings.labels
    # The empty one is of images without labels.
    classes = source.classes or tuple(sorted({item.label for item in items} - {""}))
    findings = (
        *source.findings,
        *unreadable,
        *(find_single_class(classes, source.findings) if kind == "single" else ()),
        *find_class_gaps(hashed, settings),
        *split_findings,
        *check_size(items, kind, split_findings=split_findings),
        *unlabelled_findings,
        *check_items(items, settings, classes, history, "same file"),
    )
    return Listing(
        name=settings.name or Path(settings.source).stem,
        root=root,
        classes=classes,
        items=tuple(items),
        findings=findings,
        notes=notes_of(findings),
        digest=_digest_items((*items, *unlabelled), kind, (*classes, *settings.task_kinds), source.captions),
        unlabelled=unlabelled,
        assigned=tuple(all_items),
        labels=kind,
        tasks=settings.tasks,
        captions=source.captions,
    )


def _digest_items(
    items: Sequence[Item], kind: LabelKind, classes: Sequence[str], captions: Mapping[str, tuple[str, ...]]
) -> str:
    # Without the root: moved data are the same data.
    rows = [[i.path, i.sha256, i.label, i.split] for i in items]
    # Texts of other kinds mean something only with the names of their columns.
    key = digest(rows if kind == "single" else [kind, classes, rows])
    return digest([key, [captions.get(i.path, ()) for i in items]]) if captions else key


def load_images(
    listing: Listing, settings: DataSettings, preprocess: Preprocess, cache: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Task:  # fmt: skip
    """Decode the images of a listing, or map them from the cache; see `load.load`."""
    # The listing whose digest is in the key is the one that is decoded.
    plan = DecodePlan(listing, settings, preprocess, progress)
    entry = open_or_build(cache / "pixels" / plan.key(), plan.bytes_needed(), plan.build, plan.fits)
    _raise_on_unreadable(entry.facts["bad"], listing, settings)
    return _build_task(listing, preprocess, entry, settings.max_pixels)


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
            labels=listed_labels(listing, [item.label for item in items]),
            names=[item.path for item in items],
            canvas=entry.arrays.get(f"{name}_canvas"),
            aspect=entry.arrays.get(f"{name}_aspect"),
            decode_row=partial(_decode_row, listing.root, items, max_pixels),
            domains=[item.domain for item in items] if any(item.domain for item in items) else (),
            captions=[listing.captions[item.path] for item in items] if listing.captions and name in SPLITS else (),
        )
    return Task(
        name=listing.name,
        output=listed_output(listing, splits["train"].labels),
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
