"""List the vectors of a `.npz` file, and make a task of them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effxfer.data.checks.across_splits import check_items, find_single_class
from effxfer.data.checks.class_names import check_names
from effxfer.data.checks.enough import check_size
from effxfer.data.checks.leaks import find_class_gaps
from effxfer.data.history import NONE, History, record_of
from effxfer.data.labels.arrays import label_array, output_of
from effxfer.data.listing import SPLITS, UNLABELLED, Finding, Item, Listing, notes_of
from effxfer.data.settings import REST, DataSettings
from effxfer.data.splits import assign
from effxfer.data.task import Split, Task
from effxfer.data.vectors.npz_source import UNIT, VectorArrays, read_labelled, read_unlabelled
from effxfer.errors import DataError, SettingsError
from effxfer.files import digest
from effxfer.runtime.vectors.vectors import Vectors

SUFFIX = ".npz"
Numbers = NDArray[np.float32]


def holds_vectors(settings: DataSettings) -> bool:
    """Whether a data set holds vectors: its `format` says so, or its source is a `.npz` file."""
    return settings.format == "vectors" or (settings.format == "auto" and settings.source.lower().endswith(SUFFIX))


def survey_vectors(settings: DataSettings, base: Path = Path(), history: History = NONE) -> Listing:
    """List the vectors of a source; see `load.survey`.

    Raises:
        DataError: As `read_labelled`.
        SettingsError: If a setting of images, texts or tables is given.
    """
    if mistake := settings.mistake_of_vectors():
        raise SettingsError(f"data: {mistake}", code="E201")
    arrays = read_labelled(settings, base)
    listed, problems = _items(arrays, settings)
    used, split_findings, every = assign(listed, settings, history.split_of, UNIT)
    used.sort(key=_row)
    kind = settings.labels
    classes = arrays.classes or tuple(sorted({item.label for item in used}))
    unlabelled, unlabelled_rows, note = _list_unlabelled(listed, used, arrays.features, settings, base)
    findings = (
        *arrays.findings,
        *problems,
        *(find_single_class(classes, hint="give vectors of two classes at least") if kind == "single" else ()),
        *check_names(classes, kind),
        *find_class_gaps(listed, settings, UNIT),
        *split_findings,
        *check_size(used, kind, UNIT, split_findings),
        *note,
        *check_items(used, settings, classes, history, "same vector", UNIT),
    )
    return Listing(
        name=settings.name or Path(settings.source).stem,
        root=None,
        classes=classes,
        items=tuple(used),
        findings=findings,
        notes=notes_of(findings),
        digest=digest([UNIT, kind, classes, [[i.path, i.sha256, i.label, i.split] for i in (*used, *unlabelled)]]),
        unlabelled=unlabelled,
        assigned=tuple(every),
        labels=kind,
        vectors=np.concatenate([arrays.features[[_row(item) for item in used]], unlabelled_rows]),
    )


def load_vectors(listing: Listing, input: Vectors) -> Task:
    """Make a task of a listing; its input is standardised by the training split, unless it already is by another.

    Raises:
        SettingsError: If the network takes vectors of another width.
    """
    assert listing.vectors is not None
    width = listing.vectors.shape[1]
    if width != input.size:
        text = f"this network takes vectors of {input.size} numbers, {listing.name} holds vectors of {width}"
        raise SettingsError(text, f"set backbone.args.inputs to {width}, or give other features", code="E219")
    splits = {name: _split(listing, name) for name in (*SPLITS, UNLABELLED)}
    train = splits["train"]
    return Task(
        name=listing.name,
        output=output_of(listing.labels, listing.classes, train.labels),
        train=train,
        val=splits["val"],
        test=splits["test"],
        unlabelled=splits[UNLABELLED] if listing.unlabelled else None,
        input=input.fit(train.rows),
        digest=listing.key,
        records=(record_of(listing),),
        notes=listing.notes,
    )


def _items(arrays: VectorArrays, settings: DataSettings) -> tuple[list[Item], list[Finding]]:
    """Return the usable vectors as items, with which splits are assigned and compared, and problems of the others."""
    name, bad, items, findings = Path(settings.source).name, arrays.bad, list[Item](), list[Finding]()
    for row, (label, split) in enumerate(zip(arrays.labels, arrays.splits, strict=True)):
        path = f"{name}:{row}"
        if bad[row]:
            findings.append(_problem("E363", path, "NaN or infinity", settings))
        elif not label:
            findings.append(_problem("E334", path, "no label", settings))
        else:
            items.append(Item(path, label, split, "", _content(arrays.features[row])))
    return items, findings


def _problem(code: str, path: str, text: str, settings: DataSettings) -> Finding:
    """Return the finding for a row that cannot be used: an error, or a warning if such rows are left out."""
    if settings.skip_bad:
        return Finding(code=code, severity="warning", path=path, text=f"{text}, left out", group="rows left out")
    hint = "fill it in, or leave such rows out: `data.skip_bad=true`"
    return Finding(code=code, severity="error", path=path, text=text, hint=hint, group=text)


def _list_unlabelled(
    labelled: Sequence[Item], used: Sequence[Item], features: Numbers, settings: DataSettings, base: Path
) -> tuple[tuple[Item, ...], Numbers, list[Finding]]:
    """Return vectors without labels, except those that are also in use with one."""
    nothing = features[:0]
    if settings.unlabelled is None:
        return (), nothing, []
    used_contents = {item.sha256 for item in used}
    if settings.unlabelled == REST:
        used_paths, items, rows = (
            {item.path for item in used},
            [i for i in labelled if i.sha256 not in used_contents],
            features,
        )
        items = [item for item in items if item.path not in used_paths]
    else:
        arrays = read_unlabelled(settings.unlabelled, base, features.shape[1])
        # The known ones by content: a held-out vector would be trained on.
        name, rows, bad = Path(settings.unlabelled).name, arrays.features, arrays.bad
        every = [Item(f"{name}:{row}", "", "", "", _content(rows[row])) for row in np.flatnonzero(~bad).tolist()]
        items = [item for item in every if item.sha256 not in used_contents]
    if not items:
        text = f"no vector without a label in {settings.unlabelled}"
        raise DataError(text, "remove `unlabelled`", code="E310")
    chosen = tuple(item._replace(label="", split=UNLABELLED) for item in items)
    note = Finding(code="W339", severity="note", path="", text=f"{len(chosen)} training vectors without labels")
    return chosen, rows[[_row(item) for item in chosen]], [note]


def _content(values: Numbers) -> str:
    return hashlib.sha256((values + np.float32(0)).astype("<f4").tobytes()).hexdigest()  # -0 is 0


def _row(item: Item) -> int:
    return int(item.path.rpartition(":")[2])


def _split(listing: Listing, name: str) -> Split:
    assert listing.vectors is not None
    places = [place for place, item in enumerate(listing.everything) if item.split == name]
    members = [listing.everything[place] for place in places]
    return Split(
        rows=listing.vectors[places],
        labels=label_array(listing.labels, [item.label for item in members], listing.classes),
        names=[item.path for item in members],
    )
