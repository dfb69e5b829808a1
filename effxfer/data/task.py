"""What a network must learn: labelled examples with classes, splits and a digest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from effxfer.data.history import Record
from effxfer.errors import DataError
from effxfer.runtime.images.crop import padding_key
from effxfer.runtime.images.preprocess import Preprocess


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Examples of one split, decoded and usually memory-mapped.

    Attributes:
        pixels: What evaluation sees: uint8 `(N, S, S, 3)`, resized and cropped exactly as the backbone expects.
        labels: int64 `(N,)`, indices into the task's classes.
        names: Where each example came from, relative to the data set's root.
        canvas: What augmentation crops from: uint8 `(N, T, T, 3)`, the whole image squashed to a square
            with `T >= S`. None where the split is never trained on.
        aspect: Width divided by height of each image before it was squashed: float32 `(N,)`, or None.
        whole: Decodes the image of a row anew, upright but otherwise as it is: uint8 `(H, W, 3)`. None where the
            images are not at hand.
        domains: The domain of each, where folders above the classes name domains; else empty.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: Sequence[str]
    canvas: NDArray[np.uint8] | None = None
    aspect: NDArray[np.float32] | None = None
    whole: "Callable[[int], NDArray[np.uint8]] | None" = None
    domains: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.labels)


class TaskLoader(Protocol):
    """Decodes the images of a task for any preprocessing."""

    def load(self, preprocess: Preprocess) -> "Task":
        """Make the task as a network of this preprocessing sees it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A classification problem.

    Attributes:
        name: How pipelines and reports call it.
        classes: Class names; a label is an index into them.
        train: Trained on.
        val: Chosen on: early stopping, gates, search.
        test: Reported on; nothing is ever chosen by it.
        preprocess: How images become `pixels`, and `pixels` become the network's input.
        digest: Digest of the files, labels and splits (not of the preprocessing).
        unlabelled: More images like those of `train`, with the label -1; None where there are none.
        target: Where the network is to work, if that is elsewhere: images of another domain, with labels for the same
            classes, or of new classes. Its labels are for reports: nothing is trained on them or chosen by them.
        notes: What a reader of a report must know about the splits and the images.
        records: Which images are in which split, of the target's too.
        loader: Decodes the images anew for another preprocessing; None where they are not at hand.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    preprocess: Preprocess
    digest: str
    unlabelled: Split | None = None
    target: "Task | None" = None
    notes: tuple[str, ...] = ()
    records: tuple[Record, ...] = ()
    loader: "TaskLoader | None" = None

    @property
    def reported(self) -> "dict[str, Split]":
        """The splits that accuracy is reported on, by name: a test split that is empty is none."""
        return {name: split for name, split in (("val", self.val), ("test", self.test)) if len(split)}

    def seen_by(self, preprocess: Preprocess) -> "Task":
        """Give the same examples as a network of another preprocessing sees them.

        Raises:
            DataError: If they would have to be decoded anew and cannot be, or are not the same any more.
        """
        if _view(preprocess) == _view(self.preprocess):
            target = self.target and self.target.seen_by(preprocess)
            return replace(self, preprocess=preprocess, target=target)
        if self.loader is None:
            raise DataError(f"{self.name} cannot be decoded for images of {preprocess.size} px", "give its folder")
        task = self.loader.load(preprocess)
        if task.digest != self.digest:
            raise DataError(f"{self.name} was changed during the run", "run it again", code="E322")
        return task


def part(split: Split, chosen: NDArray[np.int_]) -> Split:
    """Take some examples of a split, in the order of their indices `(M,)`."""
    whole = split.whole
    return Split(
        pixels=split.pixels[chosen], labels=split.labels[chosen], names=[split.names[i] for i in chosen],
        canvas=None if split.canvas is None else split.canvas[chosen],
        aspect=None if split.aspect is None else split.aspect[chosen],
        whole=None if whole is None else lambda row: whole(int(chosen[row])),
        domains=[split.domains[i] for i in chosen] if split.domains else (),
    )  # fmt: skip


def _view(preprocess: Preprocess) -> tuple[object, ...]:
    """What of a preprocessing the decoded pixels depend on."""
    return preprocess.size, preprocess.crop_pct, preprocess.interpolation, preprocess.crop, padding_key(preprocess)
