"""Settings of a data set: the source of labelled images, texts or vectors, its layout, and its splits."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Optional

from pydantic import BeforeValidator, Field, model_validator

from effxfer.data.listing import TABLES, LabelKind
from effxfer.errors import SettingsError
from effxfer.runtime.multi_task.task_outputs import BETWEEN
from effxfer.settings import Settings

# Twice Pillow's MAX_IMAGE_PIXELS (a quarter of a GiB at 3 bytes a pixel): beyond, it raises DecompressionBombError.
PIL_LIMIT = 178_956_970
REST = "rest"
# Names of inputs and outputs that exported files have, and of what a prediction says beside its tasks.
RESERVED_TASKS = ("class_embeddings", "features", "ids", "images", "logits", "pixels", "prototypes", "score")
LABEL = "label"
SPLIT = "split"
Format = Literal["auto", "images", "conll", "jsonl", "lines", "squad", "table", "vectors"]
OF_TEXTS = ("encoding", "pair_column", "tag_column", "text_column", "word_column")
TABLE_COLUMNS = ("label_column", "label_columns", "split_column", "tasks")
OF_IMAGES = (
    "canvas_scale", "caption_column", "class_from", "max_pixels", "path_column", "root", "target_domain", "unlabelled",
    "workers",
)  # fmt: skip


def _from_name(value: object) -> object:
    """Accept a plain name as the source of a data set."""
    return {"source": value} if isinstance(value, str) else value


TaskKind = Literal["multi", "single", "tags", "value"]
TargetClasses = Literal["same", "new"] | None
Target = Annotated[Optional["DataSettings"], BeforeValidator(_from_name)]


class DataSettings(Settings):
    """Settings of one data set.

    Attributes:
        source: Of images: a folder of class folders, a `.csv`, `.tsv` or `.parquet` table, or a built-in name
            (`digits`). Of texts: a file, a folder of files, a pattern of files such as `reviews/sst2.*`, or a built-in
            name (`requests`). Of several files, each holds the split that a part of its name says: `train`, `dev`,
            `val` or `test`. Of vectors: a `.npz` file of arrays.
        format: `auto`: a file is read by its suffix, and a source that cannot be one of images holds texts. `images`.
            Texts in `lines` of a label and a text with a blank or a tab between; in a `table`; in `jsonl`, an object in
            each line; in `conll` columns of words and tags; in `squad`, questions with answers in a context. `vectors`
            in a `.npz` file of arrays: `features` `(N, D)`, `labels` `(N,)` or `(N, C)`, and if wanted `splits` `(N,)`
            and `classes`, the names of classes, labels or values.
        root: Folder that a table's image paths are relative to; None for the table's own folder.
            Absolute paths must lie in it.
        name: Name of the task in pipelines and reports; None for the folder's or table's name.
        class_from: `first`: the class is the first folder below the source (or below `train`, `val`, `test`), deeper
            folders belong to it. `parent`: the class is the folder that holds the image, folders above it are domains:
            `photo/dog/1.jpg` and `sketch/dog/1.jpg` are both `dog`, and each domain is split evenly. `path`: the class
            is the whole path of that folder, such as `Greek/alpha`.
        val_fraction: Fraction of each class for validation if the source has no validation split, in (0, 0.5].
        test_fraction: Fraction of each class for testing if the source has no splits at all, in (0, 0.5].
        split_seed: Seed of these splits. Images that the network had in an earlier stage stay in their split.
        skip_bad: Skip unreadable images, or lines of texts that cannot be used, and report their number, instead of
            stopping.
        allow_empty: Accept class folders without images, and classes that are missing in the validation or test split.
        allow_leakage: Accept equal images or texts in training and in validation or test, and report their number.
        max_pixels: Refuse images with more pixels than this (width x height) before decoding them.
        path_column: Column of a table that holds the image's path, relative to `root`.
        caption_column: Column of a table of images that holds a caption of each, for `clip`; an image may have several
            rows, with a caption in each. None for no captions.
        text_column: Column of a table, or field of an object, that holds the text, or a list of words.
        pair_column: Column or field of the second text of a pair; None for single texts.
        word_column: Column of a CoNLL file that holds the word, from 0; negative ones count from the last.
        tag_column: Column of a CoNLL file that holds the tag.
        encoding: Encoding of files of texts.
        labels: A kind, or a table of tasks: `{shape = "single", area = "value"}`. `single`: each image has one class.
            `multi`: any number of labels, in one column or in a column for each label. `value`: a number, or several in
            a column each. `multi` and `value` need a table. `tags`: a tag for each word of a text, from CoNLL or from
            lines of objects. `span`: answers to questions, from SQuAD. `none`: texts or images alone, for `pretrain`. A
            line of a file is then a text, and a folder may hold images at any depth, whose folders, if they name
            classes, are for reports alone.
        tasks: Kind of label of each task, `single`, `multi`, `value` or `tags`, by its column or field; `labels` is
            then `tasks`. An empty cell is a missing label; a single bar in a column of kind `multi` says that no label
            applies. With `tags`, words of texts and their tags are separated by blanks, or lists in lines of objects.
        label_column: Column of a table, or field of an object, that holds the class, the labels or the number.
        label_columns: Columns of a table that hold a label or a value each, instead of `label_column`. For `single`: a
            task each. For `multi`: 1, true or yes where the label applies, 0, false or no where it does not, empty or
            -1 where that is unknown. For `value`: numbers, empty where unknown.
        label_separator: What separates the labels in a cell of `label_column`; None for the bar `|` or the semicolon,
            whichever the cells hold. An empty cell means that no label applies.
        split_column: Column or field that holds `train`, `val` or `test`. Without a column `split` the table is split
            by fractions; a column of another name is required.
        max_per_class: Use at most this many training images of each class (few labels); None uses all. The images of a
            smaller number are a subset of those of a larger one.
        unlabelled: Additional training examples without labels, for strategies that use them: a folder of images at any
            depth, a `.npz` file of vectors, or `rest` for those that `max_per_class` excludes; None for none, or those
            of the target.
        target: Target domain, if it differs from these images: another source, or a table of data settings. Its labels
            are used only for reports, never for training or selection. With the same classes, its training images
            serve as `unlabelled` and accuracy is reported on its test images; with new classes only, accuracy is
            reported on all its images, by episodes.
        target_domain: Instead of `target`: the domain of this source that is the target, by the name of its folder. It
            needs `class_from = "parent"`. All other domains are then the source.
        class_embeddings: What is known of each class beside its examples, for zero-shot strategies: a `.csv` file with
            the name of a class and its numbers in each line, such as attributes; or a file of word vectors (GloVe's
            text, or `.npz` with arrays `words` and `vectors`), in which the words of class names are looked up. New
            classes of the target need a row, too.
        target_classes: For a target with both known and new classes: report on the `same` or on the `new` ones; None
            refuses such a target.
        canvas_scale: Side of the squashed training image that augmentation crops from, as a multiple of the input
            side, in [1, 4]; never larger than the images.
        workers: Threads that read and decode; None for one per available core, or a single one for small images.
    """

    source: str = Field(min_length=1)
    format: Format = "auto"
    root: str | None = Field(default=None, min_length=1)
    name: str | None = Field(default=None, min_length=1)
    class_from: Literal["first", "parent", "path"] = "first"
    # Chosen: a tenth each. 100 images tell accuracies apart that differ by ten points, 1,000 by three.
    val_fraction: float = Field(default=0.1, gt=0, le=0.5)
    test_fraction: float = Field(default=0.1, gt=0, le=0.5)
    split_seed: int = Field(default=0, ge=0)
    skip_bad: bool = False
    allow_empty: bool = False
    allow_leakage: bool = False
    # 64 MP take 256 MB while they are decoded; cameras of telephones reach 50 MP.
    max_pixels: int = Field(default=64_000_000, ge=1, le=PIL_LIMIT)
    path_column: str = Field(default="path", min_length=1)
    caption_column: str | None = Field(default=None, min_length=1)
    text_column: str = Field(default="text", min_length=1)
    pair_column: str | None = Field(default=None, min_length=1)
    word_column: int = Field(default=0, ge=-100, le=100)
    tag_column: int = Field(default=-1, ge=-100, le=100)
    encoding: Literal["utf-8", "latin-1", "cp1252", "utf-16"] = "utf-8"
    labels: LabelKind = "single"
    tasks: dict[str, TaskKind] = Field(default_factory=dict)
    label_column: str = Field(default=LABEL, min_length=1)
    # Not strict: within a target, a list of JSON comes as a list of Python.
    label_columns: tuple[Annotated[str, Field(min_length=1)], ...] = Field(default=(), strict=False)
    label_separator: str | None = Field(default=None, min_length=1)
    split_column: str = Field(default=SPLIT, min_length=1)
    max_per_class: int | None = Field(default=None, ge=1)
    unlabelled: str | None = Field(default=None, min_length=1)
    target: Target = None
    target_domain: str | None = Field(default=None, min_length=1)
    target_classes: TargetClasses = None
    class_embeddings: str | None = Field(default=None, min_length=1)
    # As 256 to 224, ImageNet's usual sides: a crop of 0.75 of the area is then still sampled from real pixels.
    canvas_scale: float = Field(default=1.15, ge=1, le=4)
    # 64: chosen; more threads would queue for the GIL.
    workers: int | None = Field(default=None, ge=1, le=64)

    @model_validator(mode="before")
    @classmethod
    def _read_tasks(cls, table: Any) -> Any:
        """Turn a table of kinds, or several columns of single labels, into tasks."""
        if not isinstance(table, Mapping):
            return table
        labels, columns = table.get("labels", "single"), table.get("label_columns")
        if isinstance(labels, Mapping):
            return {**table, "labels": "tasks", "tasks": labels}
        if labels != "single" or not isinstance(columns, list | tuple) or not columns:
            return table
        if repeated := [name for name in columns if columns.count(name) > 1]:
            raise ValueError(f"label_columns: two tasks have one name, {repeated[0]!r}")
        return {**{k: v for k, v in table.items() if k != "label_columns"}, "labels": "tasks",
                "tasks": dict.fromkeys(map(str, columns), "single")}  # fmt: skip

    @model_validator(mode="after")
    def _check_tasks(self) -> "DataSettings":
        if (self.labels == "tasks") != bool(self.tasks):
            raise ValueError('several tasks are named by a table: labels = {shape = "single", area = "value"}')
        if len(self.tasks) == 1:
            name, kind = next(iter(self.tasks.items()))
            raise ValueError(f"one task is no several: set labels = {kind!r} and label_column = {name!r}")
        if self.tasks and (self.label_columns or self.label_column != LABEL):
            raise ValueError("leave out label_column and label_columns: each task's name is its column")
        if bad := [name for name in self.tasks if not name or BETWEEN in name or name in RESERVED_TASKS]:
            raise ValueError(f"a task cannot be called {bad[0]!r}: rename the column")
        return self

    @model_validator(mode="after")
    def _check_tagged_tasks(self) -> "DataSettings":
        if self.tagged_tasks and self.pair_column:
            raise ValueError(f"leave out pair_column: the task {self.tagged_tasks[0]!r} tags the words of single texts")
        return self

    @model_validator(mode="after")
    def _check_labels(self) -> "DataSettings":
        if self.label_columns and self.label_column != LABEL:
            raise ValueError("label_column and label_columns exclude each other")
        if self.label_columns and self.labels == "none":
            raise ValueError("label_columns has no effect with labels = 'none'")
        if self.label_separator and (self.labels != "multi" or self.label_columns):
            raise ValueError("label_separator needs labels = 'multi' with label_column")
        by_class = {"max_per_class": self.max_per_class, "unlabelled = 'rest'": self.unlabelled == REST}
        if self.labels != "single" and any(by_class.values()):
            names = " and ".join(name for name, value in by_class.items() if value)
            raise ValueError(f"leave out {names}: with labels = {self.labels!r} an image has no single class")
        if self.target and {self.labels, self.target.labels} != {"single"}:
            raise ValueError("a target needs labels = 'single', and this data set too")
        return self

    @model_validator(mode="after")
    def _check_combinations(self) -> "DataSettings":
        if self.val_fraction + self.test_fraction > 0.9:
            raise ValueError("val_fraction + test_fraction must leave at least 0.1 for training")
        columns = (self.path_column, self.split_column, *self.names_of_labels)
        if len(set(columns)) < len(columns) and not self.says_texts:
            raise ValueError("path_column, label_column and split_column must be three different columns")
        if self.root and not self.source.lower().endswith(TABLES):
            raise ValueError(f"root is the folder of a table's images, and {self.source} is no table")
        if self.unlabelled == REST and self.max_per_class is None:
            raise ValueError("unlabelled = 'rest' means the images that max_per_class excludes: set max_per_class")
        if self.target and (self.target.target or self.target.unlabelled):
            raise ValueError("a target cannot have a target or unlabelled images of its own")
        if self.target_classes and not (self.target or self.target_domain):
            raise ValueError("target_classes has no effect without a target")
        if self.target_domain and (self.target or self.class_from != "parent" or self.labels != "single"):
            raise ValueError("target_domain needs class_from = 'parent' and labels = 'single', and excludes target")
        return self

    @model_validator(mode="after")
    def _check_captions(self) -> "DataSettings":
        if self.caption_column in (self.path_column, self.split_column, *self.names_of_labels):
            raise ValueError("caption_column must be another column than those of paths, labels and splits")
        if self.caption_column and not self.source.lower().endswith(TABLES):
            raise ValueError(f"caption_column is a column of a table, and {self.source} is no table")
        return self

    @model_validator(mode="after")
    def _check_class_embeddings(self) -> "DataSettings":
        if self.class_embeddings and self.labels != "single":
            raise ValueError("class_embeddings needs labels = 'single'")
        if self.target and self.target.class_embeddings:
            raise ValueError("a target has no class_embeddings of its own: name one file for all classes beside it")
        return self

    @model_validator(mode="after")
    def _check_modality(self) -> "DataSettings":
        if self.word_column == self.tag_column:
            raise ValueError("word_column and tag_column must be different columns")
        if self.says_texts and (mistake := self.mistake_of_texts()):
            raise ValueError(mistake)
        if self.format == "images" and (of_texts := self.nondefault_among(OF_TEXTS)):
            raise ValueError(f"leave out {of_texts[0]}: it is a setting of texts")
        return self

    def require_single_labels(self, purpose: str) -> None:
        """Refuse other kinds of label than one class for each example.

        Args:
            purpose: What needs one class for each example, such as `rank`.

        Raises:
            SettingsError: If `labels` is another kind.
        """
        if self.labels != "single":
            problem = f"{purpose} needs one class for each example, and {self.source} has labels = {self.labels!r}"
            raise SettingsError(problem, f"`finetune`, `compete` and `search` take labels of kind {self.labels!r}")

    @property
    def says_texts(self) -> bool:
        """Whether these settings make sense for texts only; without that, the source decides."""
        return self.format not in ("auto", "images", "vectors") or (
            self.format == "auto" and bool(self.nondefault_among(OF_TEXTS))
        )

    def mistake_of_texts(self) -> str:
        """Return what is wrong with these settings if the source holds texts; empty if nothing is."""
        if of_images := self.nondefault_among(OF_IMAGES):
            return f"leave out {of_images[0]}: it is a setting of images, and the data set holds texts"
        columns = (self.text_column, self.pair_column, self.split_column, *self.names_of_labels)
        if len(set(columns)) < len(columns):
            return "text_column, pair_column, label_column and split_column must be different columns"
        return ""

    def mistake_of_vectors(self) -> str:
        """Return what is wrong with these settings if the source holds vectors; empty if nothing is."""
        names = [name for name in (*OF_TEXTS, *OF_IMAGES, *TABLE_COLUMNS) if name != "unlabelled"]
        if set_ones := self.nondefault_among(names):
            return (
                f"leave out {set_ones[0]}: the data set holds vectors, whose labels and splits are arrays of its file"
            )
        return ""

    def nondefault_among(self, names: Sequence[str]) -> list[str]:
        """Return the fields that are not at their default."""
        # Not what was set: settings that a manifest lists have all fields set.
        fields = type(self).model_fields
        return [name for name in names if getattr(self, name) != fields[name].get_default(call_default_factory=True)]

    @property
    def tagged_tasks(self) -> tuple[str, ...]:
        """Tasks that have a tag for each word."""
        return tuple(name for name, kind in self.tasks.items() if kind == "tags")

    @property
    def task_kinds(self) -> tuple[str, ...]:
        """Each task with its kind, for digests: labels of another kind are other labels."""
        return tuple(f"{name}: {kind}" for name, kind in self.tasks.items())

    @property
    def names_of_labels(self) -> tuple[str, ...]:
        """Columns of a table that hold labels, in the order of the head's columns."""
        if self.labels == "none":
            return ()
        if self.tasks:
            return tuple(self.tasks)
        # Labels are sorted like classes, numbers stand as they were listed.
        return tuple(sorted(self.label_columns) if self.labels == "multi" else self.label_columns) or (
            self.label_column,
        )
