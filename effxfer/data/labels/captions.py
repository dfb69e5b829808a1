"""Captions of images: those of a table, or prompts filled with the names of classes.

Shape legend: N images of a split.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from effxfer.data.task import Split, Task
from effxfer.data.word_vectors import WORD
from effxfer.errors import SettingsError
from effxfer.runtime.outputs.single_label import SingleLabel

PLACE = "{}"
PROMPTS = ("a photo of a {}",)
# Of a table without labels, whose different captions then are its classes.
MOST_CLASSES = 1000
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class Captions:
    """The captions of a task.

    Attributes:
        texts: All different ones, sorted.
        of_images: By split, the places in `texts` of each image's captions.
    """

    texts: tuple[str, ...]
    of_images: dict[str, list[tuple[int, ...]]]

    def of_split(self, split: str) -> tuple[list[int], list[list[int]]]:
        """Return the places of a split's different captions, ascending, and which of these are each image's."""
        used = sorted({place for places in self.of_images[split] for place in places})
        number = {place: index for index, place in enumerate(used)}
        return used, [[number[place] for place in places] for places in self.of_images[split]]


def require_place(prompts: Sequence[str]) -> None:
    """Refuse prompts without a place for a name.

    Raises:
        SettingsError: If there is one.
    """
    if absent := [prompt for prompt in prompts if PLACE not in prompt]:
        raise SettingsError(f"prompt {absent[0]!r} has no {PLACE}, where the name goes", "write `a photo of a {}`")


def fill_prompts(name: str, prompts: Sequence[str]) -> tuple[str, ...]:
    """Return prompts with a name in their places; `polar_bear` is read as two words.

    >>> fill_prompts("polar_bear", ["a photo of a {}"])
    ('a photo of a polar bear',)
    """
    return tuple(prompt.replace(PLACE, " ".join(WORD.findall(name)) or name) for prompt in prompts)


def captions_of(task: Task, prompts: Sequence[str] = PROMPTS) -> Captions:
    """Return the captions of a task's images; without any, prompts filled with the name of an image's class.

    Raises:
        SettingsError: If images have neither captions nor classes.
    """
    splits = {name: getattr(task, name) for name in SPLITS}
    if task.train.captions:
        texts = {name: [tuple(dict.fromkeys(own)) for own in split.captions] for name, split in splits.items()}
    elif task.output.kind == "single" and task.classes:
        filled = [fill_prompts(name, prompts) for name in task.classes]
        texts = {name: [filled[label] for label in split.labels.tolist()] for name, split in splits.items()}
    else:
        text = f"{task.name} has neither captions nor classes"
        raise SettingsError(text, "name the column of captions as data.caption_column, or give class folders")
    every = tuple(sorted({text for split in texts.values() for own in split for text in own}))
    place = {text: number for number, text in enumerate(every)}
    of_images = {name: [tuple(place[text] for text in own) for own in split] for name, split in texts.items()}
    return Captions(texts=every, of_images=of_images)


def with_caption_labels(task: Task, classes: Sequence[str] = ()) -> Task:
    """Return a task of images without labels as one whose classes are its captions; others stay as they are.

    Args:
        task: Task of images.
        classes: Names of classes; an image whose captions are none of them has the label -1. Empty for all captions.

    Raises:
        SettingsError: If there are more different captions than `MOST_CLASSES`.
    """
    if task.output.kind == "single" and task.classes:
        return task
    captions = captions_of(task)
    names = tuple(classes) or captions.texts
    if len(names) > MOST_CLASSES:
        text = f"{task.name} has no labels, and {len(names)} different captions are too many for classes"
        raise SettingsError(text, "name some by `classes`, or the column of labels by data.label_column")
    place = {name: number for number, name in enumerate(names)}

    def label(split: Split) -> Split:
        labels = [next((place[text] for text in own if text in place), -1) for own in split.captions]
        return replace(split, labels=np.array(labels, np.int64).reshape(len(split.rows)))

    train, val, test = (label(split) for split in (task.train, task.val, task.test))
    return replace(task, output=SingleLabel(classes=names), train=train, val=val, test=test)


def class_of_captions(task: Task, captions: Captions, split: str) -> tuple[list[int], np.ndarray]:
    """Return the captions of a split whose images have classes, and for each the commonest class of its images."""
    classes = dict[int, Counter[int]]()
    for places, label in zip(captions.of_images[split], getattr(task, split).labels.tolist(), strict=True):
        for place in places:
            classes.setdefault(place, Counter())[label] += 1
    usual = {place: counts.most_common(1)[0][0] for place, counts in sorted(classes.items())}
    labelled = {place: label for place, label in usual.items() if label >= 0}
    return list(labelled), np.array(list(labelled.values()), np.int64)
