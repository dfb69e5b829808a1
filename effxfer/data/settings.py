"""Which labelled images a task is made of, and how they are split."""

from typing import Annotated, Literal, Optional

from pydantic import BeforeValidator, Field, model_validator

from effxfer.data.listing import TABLES
from effxfer.settings import Settings

PIL_LIMIT = 178_956_970
REST = "rest"
SPLIT = "split"


def _named(value: object) -> object:
    """Read a name as the source of a data set."""
    return {"source": value} if isinstance(value, str) else value


TargetClasses = Literal["same", "new"] | None
Target = Annotated[Optional["DataSettings"], BeforeValidator(_named)]


class DataSettings(Settings):
    """A source of labelled images, and how it is split.

    Attributes:
        source: A folder of class folders, a `.csv`, `.tsv` or `.parquet` table, or a built-in name (`digits`).
        root: Folder that holds the images of a table, which its paths are relative to; None is the table's own folder.
            Absolute paths must lie in it.
        name: How pipelines and reports call the task; the folder's or table's name if None.
        class_from: `first`: the class is the first folder below the source (or below `train`, `val`, `test`), deeper
            folders belong to it. `parent`: the class is the folder that holds the image, folders above it are domains:
            `photo/dog/1.jpg` and `sketch/dog/1.jpg` are both `dog`, and each domain is split evenly. `path`: the class
            is the whole path of that folder, such as `Greek/alpha`.
        val_fraction: Share of each class taken for validation where the source has no validation split, in (0, 0.5].
        test_fraction: Share of each class taken for testing where the source has no splits at all, in (0, 0.5].
        split_seed: Chooses which images those are, of those that the network did not have in an earlier stage: what it
            had stays in its split.
        skip_bad: Leave out unreadable images and say how many, instead of stopping at them.
        allow_empty: Accept class folders without images, and classes that are missing in the validation or test split.
        allow_leakage: Accept the same image in training and in validation or test, and say how many.
        max_pixels: Refuse images with more pixels than this (width x height) before decoding them.
        path_column: Column of a table that holds the image's path, relative to `root`.
        label_column: Column of a table that holds the class.
        split_column: Column of a table that holds `train`, `val` or `test`. A table without the column `split` is split
            by fractions; a column of another name must be there.
        max_per_class: Keep only this many training images of each class (few labels); None keeps all.
            A smaller number keeps a subset of what a larger one keeps.
        unlabelled: More training images, without labels, for strategies that use such: a folder of images at any depth,
            or `rest` for the training images that `max_per_class` leaves out; None is none, or those of the target.
        target: Where the network is to work, if not on images like these: another source, or a table of settings as
            this one is. Its labels are reported on and nothing else: nothing is trained on them or chosen by them.
            With the same classes (another domain) its training images serve as `unlabelled`, and its test images
            are reported on; with classes that are all new, all its images are, by episodes.
        target_classes: Of a target some of whose classes are known: report on the `same`, or on the `new` ones; None
            refuses such.
        canvas_scale: Side of the squashed training image that augmentation crops from, as a multiple of the input
            side, in [1, 4]; never larger than the images are.
        workers: Threads that read and decode; None is one per available core, or one alone where images are small.
    """

    source: str = Field(min_length=1)
    root: str | None = Field(default=None, min_length=1)
    name: str | None = Field(default=None, min_length=1)
    class_from: Literal["first", "parent", "path"] = "first"
    val_fraction: float = Field(default=0.1, gt=0, le=0.5)
    test_fraction: float = Field(default=0.1, gt=0, le=0.5)
    split_seed: int = Field(default=0, ge=0)
    skip_bad: bool = False
    allow_empty: bool = False
    allow_leakage: bool = False
    max_pixels: int = Field(default=64_000_000, ge=1, le=PIL_LIMIT)
    path_column: str = Field(default="path", min_length=1)
    label_column: str = Field(default="label", min_length=1)
    split_column: str = Field(default=SPLIT, min_length=1)
    max_per_class: int | None = Field(default=None, ge=1)
    unlabelled: str | None = Field(default=None, min_length=1)
    target: Target = None
    target_classes: TargetClasses = None
    canvas_scale: float = Field(default=1.15, ge=1, le=4)
    workers: int | None = Field(default=None, ge=1, le=64)

    @model_validator(mode="after")
    def _makes_sense(self) -> "DataSettings":
        if self.val_fraction + self.test_fraction > 0.9:
            raise ValueError("val_fraction + test_fraction must leave at least 0.1 for training")
        if len({self.path_column, self.label_column, self.split_column}) < 3:
            raise ValueError("path_column, label_column and split_column must be three different columns")
        if self.root and not self.source.lower().endswith(TABLES):
            raise ValueError(f"root is the folder of a table's images, and {self.source} is no table")
        if self.unlabelled == REST and self.max_per_class is None:
            raise ValueError("unlabelled = 'rest' is what max_per_class leaves out: give max_per_class")
        if self.target and (self.target.target or self.target.unlabelled):
            raise ValueError("a target has neither a target nor unlabelled images of its own")
        if self.target_classes and not self.target:
            raise ValueError("target_classes has no effect without a target")
        return self
