"""List several data tables as one, in which each table is a task with examples of its own."""

import json
from collections.abc import Sequence
from dataclasses import replace

from effxfer.data.listing import Item, LabelKind, Listing
from effxfer.data.settings import RESERVED_TASKS
from effxfer.errors import SettingsError
from effxfer.files import digest
from effxfer.runtime.multi_task.task_outputs import BETWEEN, KINDS

# What a joined listing is called between its tables.
AND = " + "


def join_listings(listings: Sequence[Listing]) -> Listing:
    """Return one listing of several tasks: an example has the labels of its own table's tasks, and lacks the others'.

    Args:
        listings: At least two, of one kind of example; each is a task, or has several.

    Raises:
        SettingsError: If two tasks have one name (E220), a name cannot be that of an output, or a table has labels of
            another kind than `single`, `multi`, `tags` and `value`, a target or examples without labels, or pairs of
            texts beside tags.
    """
    for listing in listings:
        _require_task(listing)
    _require_single_texts(listings)
    tasks = [(name, kind) for listing in listings for name, kind in kinds_of(listing).items()]
    require_different_names([name for name, _kind in tasks])
    items, start = list[Item](), 0
    for listing in listings:
        items += [_place(item, listing, start, len(tasks)) for item in listing.items]
        start += len(kinds_of(listing))
    return replace(
        listings[-1],
        name=AND.join(listing.name for listing in listings),
        root=None,
        classes=tuple(name for listing in listings for name in columns_of(listing)),
        items=tuple(items),
        findings=tuple(finding for listing in listings for finding in listing.findings),
        notes=tuple(note for listing in listings for note in listing.notes),
        digest=digest([[listing.name, listing.key] for listing in listings]),
        assigned=(),
        labels="tasks",
        tasks=dict(tasks),
        texts={f"{listing.name}/{path}": text for listing in listings for path, text in listing.texts.items()},
        captions={},
        class_embeddings=None,
    )


def tags_words(listing: Listing) -> bool:
    """Whether a task of a table tags the words of texts."""
    return "tags" in kinds_of(listing).values()


def _require_single_texts(listings: Sequence[Listing]) -> None:
    """Refuse pairs of texts beside tags: `predict` reads a text word by word."""
    tagged = next((listing.name for listing in listings if tags_words(listing)), "")
    for listing in listings:
        if tagged and isinstance(next(iter(listing.texts.values()), ""), tuple):
            text = f"{listing.name} holds pairs of texts, and {tagged} tags the words of single ones"
            raise SettingsError(text, "leave out pair_column, or name its data alone")


def kinds_of(listing: Listing) -> dict[str, LabelKind]:
    """Return the kind of label of each task of a table; a table of one task gives it its own name."""
    return dict(listing.tasks) or {listing.name: listing.labels}


def columns_of(listing: Listing) -> tuple[str, ...]:
    """Return the names of a table's columns among those of several tasks, `TASK/CLASS`."""
    return listing.classes if listing.tasks else tuple(f"{listing.name}{BETWEEN}{name}" for name in listing.classes)


def require_different_names(names: Sequence[str]) -> None:
    """Refuse two tasks of one name.

    Raises:
        SettingsError: `E220`.
    """
    if double := [name for name in names if names.count(name) > 1]:
        raise SettingsError(
            f"two tasks are called {double[0]!r}", "give one another name, with `data.name`", code="E220"
        )


def _require_task(listing: Listing) -> None:
    name = listing.name
    if bad := [kind for kind in kinds_of(listing).values() if kind not in KINDS]:
        text = f"{name} has labels of kind {bad[0]!r}, and a task beside others has labels of kind {' or '.join(KINDS)}"
        raise SettingsError(text, "give it a network of its own: name its data alone")
    if listing.target is not None or listing.unlabelled:
        extra = "a target" if listing.target is not None else "examples without labels"
        raise SettingsError(f"{name} has {extra}, beside another table", "leave that out, or name this table alone")
    if not listing.tasks and (BETWEEN in name or name in RESERVED_TASKS):
        raise SettingsError(f"a task cannot be called {name!r}", "give it another name, with `data.name`")


def _place(item: Item, listing: Listing, start: int, count: int) -> Item:
    """Return an item with the labels of `count` tasks, of which its own begin at `start`."""
    texts = json.loads(item.label) if listing.tasks else [item.label]
    texts = [""] * start + texts + [""] * (count - start - len(texts))
    return item._replace(path=f"{listing.name}/{item.path}", label=json.dumps(texts, ensure_ascii=False))
