"""Join a task with its target: examples of another domain, or of new classes.

A target's labels are used only for reports. Training may use its examples without labels.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from effxfer.data.checks.class_names import spelled_alike
from effxfer.data.checks.enough import is_about_size
from effxfer.data.checks.leaks import LEAK_HINT
from effxfer.data.listing import SHOWN, Finding, Listing, notes_of, raise_errors
from effxfer.data.settings import DataSettings, TargetClasses
from effxfer.data.task import Split, Task, subset
from effxfer.errors import DataError, SettingsError, did_you_mean
from effxfer.files import digest
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.rows import concat_rows

NAMES = {"texts": "text", "vectors": "vector"}


def join_target(listing: Listing, target: Listing, settings: DataSettings) -> Listing:
    """Join a listing with the listing of its target.

    Raises:
        SettingsError: If one holds images and the other texts.
        DataError: `E321` if only some of the target's classes are known and `target_classes` is not set, `E320` if
            images for reports are also used for training, unless `allow_leakage`.
    """
    if listing.unit != target.unit:
        raise SettingsError(f"{listing.name} holds {listing.unit}, its target {target.unit}", "name another target")
    classes = choose_classes(target.classes, listing.classes, settings.target_classes)
    new = classes[0] not in listing.classes
    reported = [item for item in target.items if item.label in classes and (new or item.split == "test")]
    # New classes are reported on all their images; nothing of the source may be among them, its test split included.
    used = {item.sha256 for item in listing.everything if new or item.split != "test"}
    text = f"same {NAMES.get(listing.unit, 'file')} in the source and in the target"
    severity = "warning" if settings.allow_leakage else "error"
    leaks = [
        Finding(code="E320", severity=severity, path=item.path, hint=LEAK_HINT, text=text)  # type: ignore[arg-type]
        for item in reported
        if item.sha256 in used
    ]
    raise_errors(leaks, target.name)
    notes = [Finding(code="W339", severity="note", path="", text=_summary(target, classes, len(reported), new=new))]
    if new and (alike := spelled_alike(classes, listing.classes)):
        text = f"classes of the target differ from known ones only in spelling: {alike}"
        notes.append(Finding(code="W318", severity="warning", path="", text=text))
    findings = (*listing.findings, *leaks, *notes, *_find_own_images(listing, target))
    return replace(listing, findings=findings, notes=notes_of(findings), target=target)


def _summary(target: Listing, classes: Collection[str], reported: int, *, new: bool) -> str:
    """Say what of the target is reported on."""
    examples = _count(reported, target.unit if new else f"test {target.unit}")
    text = f"target {target.name}: {examples} of {_count(len(classes), 'new classes' if new else 'known classes')}"
    left_out = len(target.classes) - len(classes)
    return f"{text}, {_count(left_out, 'classes')} left out" if left_out else text


def _count(number: int, noun: str) -> str:
    """Count things by their name in the plural.

    >>> _count(1, "test images"), _count(2, "new classes")
    ('1 test image', '2 new classes')
    """
    return f"{number} {noun}" if number != 1 else f"1 {noun.removesuffix('es' if noun.endswith('ses') else 's')}"


def _find_own_images(source: Listing, target: Listing) -> list[Finding]:
    """Warn about a target all of whose examples are in the source too: there is no other domain to adapt to."""
    contents = {item.sha256 for item in source.everything}
    if not target.items or not all(item.sha256 in contents for item in target.items):
        return []
    text = f"the target {target.name} holds nothing but {source.unit} of the source: it is no other domain"
    return [Finding(code="W320", severity="warning", path="", text=text)]


def separate_domain(listing: Listing, domain: str) -> tuple[Listing, Listing]:
    """Divide a listing of several domains into the source and a domain that is its target.

    Args:
        listing: Images in folders of domains.
        domain: Name of the target's folder.

    Raises:
        SettingsError: If there is no such domain, or no other one.
    """
    domains = sorted({item.domain for item in listing.items if item.domain})
    if domain not in domains or len(domains) < 2:
        text = f"data.target_domain: {listing.name} has no domain {domain!r} beside others"
        hint = f"its domains are {', '.join(domains)}" if domains else "put the classes into a folder for each domain"
        raise SettingsError(f"{text}{did_you_mean(domain, domains)}", hint)
    source, target = (_select_domain(listing, domain, is_target=is_target) for is_target in (False, True))
    return source, replace(target, name=f"{listing.name}/{domain}", unlabelled=(), findings=(), notes=())


def _select_domain(listing: Listing, domain: str, *, is_target: bool) -> Listing:
    items, assigned = (
        tuple(item for item in items if (item.domain == domain) == is_target)
        for items in (listing.items, listing.assigned)
    )
    hashed = (*items, *(() if is_target else listing.unlabelled))
    return replace(
        listing, items=items, assigned=assigned, classes=tuple(sorted({item.label for item in items})),
        digest=digest([[item.path, item.sha256, item.label, item.split] for item in hashed]),
    )  # fmt: skip


def attach_target(task: Task, target: Task, target_classes: TargetClasses = None) -> Task:
    """Attach a target to a task.

    With the same classes, labels index the task's classes, and the target's training images become the task's
    unlabelled images if it has no others.
    """
    classes = choose_classes(target.classes, task.classes, target_classes)
    new = classes[0] not in task.classes
    task = replace(task, records=(*task.records, *target.records))
    target = _select_classes(target, classes, classes if new else task.classes)
    # Of few examples for choices and for cross-validation: neither is done on a target.
    notes = (*task.notes, *(f"target: {note}" for note in target.notes if not is_about_size(note)))
    if new:
        return replace(task, target=target, notes=notes)
    # Labels are taken off here, so that no strategy can learn from them by mistake.
    free = replace(target.train, labels=np.full(len(target.train), -1, np.int64))
    return replace(task, target=target, notes=notes, unlabelled=task.unlabelled or free)


def choose_classes(
    classes: Collection[str], task_classes: Collection[str], target_classes: TargetClasses = None
) -> tuple[str, ...]:
    """Choose the classes of a target: those that the task has, or the new ones.

    Raises:
        DataError: If it has both and `target_classes` is None, or none of the requested ones.
    """
    new = tuple(name for name in classes if name not in task_classes)
    shared = tuple(name for name in classes if name in task_classes)
    if target_classes is None and new and shared:
        text = f"the target has known classes ({_first_names(shared)}) and new ones ({_first_names(new)})"
        hint = "pass `data.target_classes=new`, or `same`, to exclude the others"
        if alike := spelled_alike(new, task_classes):
            text, hint = f"{text}, of which {alike} differ only in spelling", "rename the classes of the target"
        raise DataError(text, hint, code="E321")
    chosen = {"same": shared, "new": new, None: shared or new}[target_classes]
    if not chosen:
        raise DataError(
            f"no class of the target is {'known' if target_classes == 'same' else 'new'}", "name another target"
        )
    return chosen


def concat_splits(task: Task) -> Split:
    """Concatenate the splits of a task, for reports on a task that was not used for training or selection."""
    splits = (task.train, task.val, task.test)
    return Split(
        rows=concat_rows([split.rows for split in splits]),
        labels=np.concatenate([split.labels for split in splits]),
        names=[name for split in splits for name in split.names],
        captions=[captions for split in splits for captions in split.captions],
    )


def _select_classes(task: Task, selected: Collection[str], classes: tuple[str, ...]) -> Task:
    """Select some classes of a task, with labels that index `classes`."""
    index = np.array([classes.index(name) if name in selected else -1 for name in task.classes], np.int64)

    def select(split: Split) -> Split:
        labels = index[split.labels]
        relabelled = replace(split, labels=labels)
        return relabelled if (labels >= 0).all() else subset(relabelled, np.flatnonzero(labels >= 0))

    train, val, test = (select(split) for split in (task.train, task.val, task.test))
    return replace(task, output=SingleLabel(classes=classes), train=train, val=val, test=test)


def _first_names(names: Collection[str]) -> str:
    return ", ".join(map(repr, list(names)[:SHOWN])) + (" ..." if len(names) > SHOWN else "")


def is_new(task: Task) -> bool:
    """Whether a task has a target with new classes."""
    return task.target is not None and task.target.classes != task.classes
