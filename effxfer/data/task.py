"""Tasks: labelled, decoded examples with classes, splits and a digest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from effxfer.data.decoded.joined_array import JoinedArray
from effxfer.data.history import Record
from effxfer.errors import DataError, SettingsError
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.inputs import SIZE_UNITS, Input
from effxfer.runtime.multi_task.task_labels import concat_labels
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.positions import PositionLabels
from effxfer.runtime.rows import concat_rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Examples of one split, decoded and usually memory-mapped.

    Attributes:
        rows: Decoded examples in the form that the task's input takes. Images are evaluation views: uint8
            `(N, S, S, 3)`, resized and cropped exactly as the backbone expects. Texts are `Ragged` rows of token ids,
            vectors float32 `(N, D)` as they were given.
        labels: One for each example, of the kind of the task's output: single labels int64 `(N,)`, -1 for none; several
            labels uint8 `(N, C)`, 255 where unknown; values float32 `(N, K)`, NaN where unknown; tags `TagLabels`,
            answers `SpanLabels`, whose examples are texts or windows of long ones; several tasks float32 `(N, W)`, or
            `TaskLabels` if one tags words.
        names: Path of each example, relative to the data set's root; of a text the file and the line.
        canvas: Images that augmentation crops from: uint8 `(N, T, T, 3)`, the whole image squashed to a square
            with `T >= S`. None if the split is never trained on.
        aspect: Width divided by height of each image before it was squashed: float32 `(N,)`, or None.
        decode_row: Reads the whole example of a row again: an image, upright and without resizing, uint8 `(H, W, 3)`;
            a text, or a pair of texts. None if the examples are not available.
        domains: Domain of each example, if folders above the classes name domains; else empty.
        captions: Texts that say what each image shows, at least one for each; empty if there are none.
        tables: Number of the data table that each example is of, int64 `(N,)`, where tables are the tasks of one
            network; None for a single table.
    """

    rows: Any  # Rows
    labels: Any  # NDArray[Any] | PositionLabels
    names: Sequence[str]
    canvas: NDArray[np.uint8] | JoinedArray | None = None
    aspect: NDArray[np.float32] | None = None
    decode_row: "Callable[[int], Any] | None" = None
    domains: Sequence[str] = ()
    captions: Sequence[tuple[str, ...]] = ()
    tables: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def groups(self) -> NDArray[np.int64]:
        """Number of the text that each row is of, `(N,)`; windows of a long text have the same."""
        return self.labels.groups if isinstance(self.labels, PositionLabels) else np.arange(len(self))


class TaskLoader(Protocol):
    """Decodes the examples of a task for any network."""

    def load(self, input: Input) -> "Task":
        """Make the task as a network with this input sees it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A prediction problem: examples with labels of one kind.

    Attributes:
        name: Name in pipelines and reports.
        train: Examples for training.
        val: Examples for selection: early stopping, accuracy gates, search.
        test: Examples for reports; never used for selection.
        output: The kind of label and the names of the head's columns.
        input: How examples are decoded into rows, and rows become the network's input.
        digest: Digest of the files or texts, labels and splits (not of the preprocessing or the tokenizer).
        unlabelled: Additional training images with the label -1; None without any.
        target: Target domain or target classes, if they differ from the task's own. Its labels are used only for
            reports, never for training or selection.
        class_embeddings: What is known of each class beside its examples, such as attributes or a word vector: float32
            `(C, E)`; None if nothing is. A target of new classes has its own rows.
        notes: Notes on the splits and examples for reports.
        records: The split of every example, including the target's.
        loader: Decodes the examples again for another input; None if they are not available.
        stream: The tasks that it was joined of, in the order of time, with labels like its own; empty for a single one.
    """

    name: str
    output: Output
    train: Split
    val: Split
    test: Split
    input: Input
    digest: str
    unlabelled: Split | None = None
    target: "Task | None" = None
    class_embeddings: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()
    records: tuple[Record, ...] = ()
    loader: "TaskLoader | None" = None
    stream: "tuple[Task, ...]" = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the head's columns; a single label is an index into them."""
        return self.output.classes

    @property
    def reported_splits(self) -> "dict[str, Split]":
        """The splits that accuracy is reported on, by name, without an empty test split."""
        return {name: split for name, split in (("val", self.val), ("test", self.test)) if len(split)}

    def with_input(self, input: Input) -> "Task":
        """Return the same examples for a network with another input, such as another size or tokenizer.

        Raises:
            DataError: If they must be decoded again but are not available, or were changed.
        """
        if (input.kind, input.decode_key()) == (self.input.kind, self.input.decode_key()):
            target = self.target and self.target.with_input(input)
            return replace(self, input=input, target=target)
        if self.loader is None:
            of_size = f"{input.unit} of {input.size} {SIZE_UNITS[input.kind]}"
            raise DataError(f"{self.name} cannot be decoded for {of_size}", "give its folder")
        task = self.loader.load(input)
        # Measurements before and after would be of different images.
        if task.digest != self.digest:
            raise DataError(f"{self.name} was changed during the run", "run it again", code="E322")
        return task


def subset(split: Split, indices: NDArray[np.int_]) -> Split:
    """Select examples of a split by their indices `(M,)`, in this order."""
    decode_row = split.decode_row
    return Split(
        rows=split.rows[indices], labels=split.labels[indices], names=[split.names[i] for i in indices],
        canvas=None if split.canvas is None else split.canvas[indices],
        aspect=None if split.aspect is None else split.aspect[indices],
        decode_row=None if decode_row is None else lambda row: decode_row(int(indices[row])),
        domains=[split.domains[i] for i in indices] if split.domains else (),
        captions=[split.captions[i] for i in indices] if split.captions else (),
        tables=None if split.tables is None else split.tables[indices],
    )  # fmt: skip


def sample_evenly(split: Split, count: int, seed: int) -> Split:
    """Return at most `count` examples of a split in their order; of single labels the same share of each class.

    Args:
        split: The split.
        count: Largest number of examples.
        seed: Random seed of the choice.
    """
    n = len(split)
    order = np.random.default_rng(seed).permutation(n)
    if np.ndim(split.labels) == 1:
        # Stable, so that within a class the order is that of the permutation.
        order = order[np.argsort(split.labels[order], kind="stable")]
    # Evenly spaced over examples sorted by class: of each the same share; sorted again, as files are read in order.
    return subset(split, np.sort(order[np.linspace(0, n - 1, min(count, n)).round().astype(int)]))


def stack_splits(splits: Sequence[Split]) -> Split:
    """Join splits of one input and one kind of label end to end.

    Images to crop from are joined only if they have one size in all splits; elsewhere augmentation crops from the rows.
    """
    nonempty = [split for split in splits if len(split)] or list(splits[:1])
    canvases = [split.canvas for split in nonempty if split.canvas is not None and split.aspect is not None]
    has_canvas = len(canvases) == len(nonempty) and len({canvas.shape[1:] for canvas in canvases}) == 1
    tables = [split.tables for split in nonempty if split.tables is not None]
    return Split(
        rows=concat_rows([split.rows for split in nonempty]),
        labels=concat_labels([split.labels for split in nonempty]),
        names=[name for split in nonempty for name in split.names],
        canvas=_join_canvases(canvases) if has_canvas else None,
        aspect=np.concatenate([split.aspect for split in nonempty]) if has_canvas else None,
        decode_row=_joined_decoder(nonempty),
        tables=np.concatenate(tables) if len(tables) == len(nonempty) else None,
    )


def _join_canvases(canvases: Sequence[NDArray[np.uint8] | JoinedArray]) -> NDArray[np.uint8] | JoinedArray:
    """Join images to crop from where they lie: they are the largest part of a split, and only batches are read."""
    return canvases[0] if len(canvases) == 1 else JoinedArray(canvases)


def _joined_decoder(splits: Sequence[Split]) -> "Callable[[int], Any] | None":
    decoders = [split.decode_row for split in splits if split.decode_row is not None]
    if len(decoders) < len(splits):
        return None
    ends = np.cumsum([len(split) for split in splits])

    def decode(row: int) -> Any:
        number = int(np.searchsorted(ends, row, side="right"))
        return decoders[number](row - int(ends[number - 1]) if number else row)

    return decode


def require_images(input: Input, purpose: str) -> Preprocess:
    """Return the preprocessing of a network that takes images.

    Raises:
        SettingsError: If it takes something else; `purpose` says who needs images.
    """
    if not isinstance(input, Preprocess):
        raise SettingsError(f"{purpose} needs images, this network takes {input.unit}", "leave it out")
    return input
