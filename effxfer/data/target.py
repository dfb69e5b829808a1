"""Where a network is to work, if not on images like those that it learns from: another domain, or new classes.

Labels of a target are there to be reported on. What is trained on gets its images without them.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from effxfer.data.checks.leaks import LEAK_HINT
from effxfer.data.listing import Finding, Listing, notes_of, raise_errors
from effxfer.data.settings import DataSettings, TargetClasses
from effxfer.data.task import Split, Task, part
from effxfer.errors import DataError

SHOWN = 5


def aimed_at(listing: Listing, target: Listing, settings: DataSettings) -> Listing:
    """Join a listing with that of its target.

    Raises:
        DataError: `E321` if only some of the target's classes are known and the settings do not say which to take,
            `E320` if it is reported on images that are learnt from, unless `allow_leakage`.
    """
    classes = chosen(target.classes, listing.classes, settings.target_classes)
    new = classes[0] not in listing.classes
    reported = [item for item in target.items if item.label in classes and (new or item.split == "test")]
    seen = {item.sha256 for item in listing.everything if new or item.split != "test"}
    text = "same file in the source and in the target"
    severity = "warning" if settings.allow_leakage else "error"
    found = [
        Finding(code="E320", severity=severity, path=item.path, hint=LEAK_HINT, text=text)  # type: ignore[arg-type]
        for item in reported
        if item.sha256 in seen
    ]
    raise_errors(found, target.name)
    left = f", {n} classes left out" if (n := len(target.classes) - len(classes)) else ""
    about = f"target {target.name}: {len(reported)} images of {len(classes)} {'new' if new else 'known'} classes{left}"
    note = Finding(code="W339", severity="note", path="", text=about)
    findings = (*listing.findings, *found, note)
    return replace(listing, findings=findings, notes=notes_of(findings), target=target)


def aim(task: Task, target: Task, which: TargetClasses = None) -> Task:
    """Give a task its target; where classes are the same, labels index the task's classes.

    The target's training images then become the task's images without labels, if it has no others.
    """
    classes = chosen(target.classes, task.classes, which)
    new = classes[0] not in task.classes
    task = replace(task, records=(*task.records, *target.records))
    target = _of(target, classes, classes if new else task.classes)
    notes = (*task.notes, *(f"target: {note}" for note in target.notes))
    if new:
        return replace(task, target=target, notes=notes)
    free = replace(target.train, labels=np.full(len(target.train), -1, np.int64))
    return replace(task, target=target, notes=notes, unlabelled=task.unlabelled or free)


def chosen(classes: Collection[str], known: Collection[str], which: TargetClasses = None) -> tuple[str, ...]:
    """Choose the classes of a target: those that are known, or those that are not.

    Raises:
        DataError: If there are both and `which` does not say, or there are none of those that it says.
    """
    new = tuple(name for name in classes if name not in known)
    same = tuple(name for name in classes if name in known)
    if which is None and new and same:
        text = f"of the target's classes {len(same)} are known ({_shown(same)}) and {len(new)} are not ({_shown(new)})"
        hint = "pass `data.target_classes=new`, or `same`, to leave the others out"
        raise DataError(text, hint, code="E321")
    found = {"same": same, "new": new, None: same or new}[which]
    if not found:
        raise DataError(f"no class of the target is {'known' if which == 'same' else 'new'}", "name another target")
    return found


def whole(task: Task) -> Split:
    """Put the splits of a task together: what can be reported on where nothing was trained on or chosen by."""
    parts = (task.train, task.val, task.test)
    return Split(
        pixels=np.concatenate([one.pixels for one in parts]),
        labels=np.concatenate([one.labels for one in parts]),
        names=[name for one in parts for name in one.names],
    )


def _of(task: Task, kept: Collection[str], classes: tuple[str, ...]) -> Task:
    """Keep some classes of a task, with labels that index `classes`."""
    number = np.array([classes.index(name) if name in kept else -1 for name in task.classes], np.int64)

    def renumbered(split: Split) -> Split:
        labels = number[split.labels]
        found = replace(split, labels=labels)
        return found if (labels >= 0).all() else part(found, np.flatnonzero(labels >= 0))

    train, val, test = (renumbered(one) for one in (task.train, task.val, task.test))
    return replace(task, classes=classes, train=train, val=val, test=test)


def _shown(names: Collection[str]) -> str:
    return ", ".join(map(repr, list(names)[:SHOWN])) + (" ..." if len(names) > SHOWN else "")
