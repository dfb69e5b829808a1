"""Sources and data of the API's functions: convert names, paths, dictionaries and objects for the stages."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effxfer import model_source
from effxfer.api.result import Backbone, Result
from effxfer.artifact import Artifact
from effxfer.data.listing import NOUNS, SPLITS, Listing
from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError
from effxfer.net.settings import BackboneSettings
from effxfer.prune.tickets.file import TicketFile
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.settings import build, overlay
from effxfer.stages.runner.source import AdapterOnBase
from effxfer.stages.runner.source import Source as Origin

if TYPE_CHECKING:
    from effxfer.data.task import Task
    from effxfer.runtime.inputs import Input

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set whose images or texts are listed and split, but not decoded.

    Attributes:
        settings: Source of the examples, and settings of the splits.
        listing: Every example with its class and its split.
    """

    settings: DataSettings
    listing: Listing

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted."""
        return self.listing.classes

    @property
    def counts(self) -> dict[str, int]:
        """Number of examples in each split: `train`, `val`, `test`."""
        return {split: len(self.listing.split(split)) for split in SPLITS}

    def task(self, size: int = 224, *, input: "Input | None" = None) -> "Task":
        """Decode the examples, and return them memory-mapped: images are uint8 arrays `(N, size, size, 3)`.

        Args:
            size: Side of the images in pixels.
            input: `input` of a network, which says how to decode; texts need one, and it replaces `size`.

        Raises:
            DataError: If an example cannot be read.
            SettingsError: If the data set holds texts, and the input is one of images, or the other way round.
        """
        from effxfer.data.load import load as decode

        return decode(self.settings, input or Preprocess(size=size))

    def __str__(self) -> str:
        counts = ", ".join(f"{number} {split}" for split, number in self.counts.items())
        notes = [f"note: {note}" for note in self.listing.notes]
        head = f"{self.settings.source}: {len(self.classes)} {NOUNS[self.listing.labels]}"
        return "\n".join([f"{head}; {counts} {self.listing.unit}", *notes])


Network = PathLike | Mapping[str, Any] | Result | Artifact | Backbone | BackboneSettings
Source = Network | TicketFile | AdapterOnBase
Data = PathLike | Mapping[str, Any] | Dataset | DataSettings


def load(source: PathLike, *, settings: Mapping[str, Any] | None = None, **backbone: Any) -> Result | Backbone:
    """Open a model directory, or select a pretrained network by its name.

    Args:
        source: Model directory, name of a bundled model, `timm:NAME[@FILE]`, `torchvision:NAME[@FILE]`, `hf:FOLDER` of
            a text encoder, `clip:FOLDER` of a dual encoder, or `package.module:factory`.
        settings: Settings of the backbone as a dictionary; it overrides keyword arguments.
        backbone: Settings of the backbone: `size`, `pretrained`, `args`, `crop`, `interpolation`, `mean`, `std`.

    Returns:
        A `Result` for a model directory, else a `Backbone`. Both have a method `network()`.

    Raises:
        SettingsError: If a setting is wrong, or settings are passed for a model directory.
        ModelFileError: If the source looks like a model directory but is none.

    Examples:
        >>> network = ex.load("runs/dense").network()
        >>> backbone = ex.load("timm:mobilenetv2_100", size=128)
    """
    origin = network_of(source, {**backbone, **(settings or {})})
    return Result.of(origin) if isinstance(origin, Artifact) else Backbone(settings=origin)


def load_data(
    source: PathLike, *, val_fraction: float | None = None, test_fraction: float | None = None,
    max_per_class: int | None = None, skip_bad: bool | None = None,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Dataset:  # fmt: skip
    """List and split the images or texts of a data set, without decoding them.

    Args:
        source: Folder of class folders, a `.csv`, `.tsv` or `.parquet` table, or `digits`; of texts, a file, a folder
            of files, or a pattern such as `reviews/sst2.*`.
        val_fraction: Share of each class for validation if the source has no validation split, in (0, 0.5].
        test_fraction: Share of each class for testing if the source has no splits, in (0, 0.5].
        max_per_class: Maximum number of training examples per class; None for all.
        skip_bad: Whether to skip unreadable examples instead of raising an error.
        settings: More settings of the data as a dictionary; it overrides keyword arguments.
        extra: More settings of the data by name.

    Returns:
        The data set, with its classes, counts and notes.

    Raises:
        SettingsError: If a setting is wrong.
        DataError: If the source is absent or cannot be used for training.

    Examples:
        >>> photos = ex.load_data("photos", val_fraction=0.2, max_per_class=100)
        >>> print(photos.classes, photos.counts)
        >>> train = photos.task(size=128).train.rows
    """
    from effxfer.data.load import scan

    table = table_of(
        settings, extra, source=os.fspath(source), val_fraction=val_fraction, test_fraction=test_fraction,
        max_per_class=max_per_class, skip_bad=skip_bad,
    )  # fmt: skip
    chosen = build(DataSettings, table, "data")
    return Dataset(settings=chosen, listing=scan(chosen))


def table_of(settings: Mapping[str, Any] | None, extra: Mapping[str, Any], **keywords: Any) -> dict[str, Any]:
    """Merge keyword arguments, extra settings and a settings table, in this order.

    A keyword `fit__epochs` is the setting `fit.epochs`; None is skipped.

    >>> table_of({"fit": {"lr": 0.1}}, {"round_to": 8}, fit__epochs=3, seed=None)
    {'fit': {'epochs': 3, 'lr': 0.1}, 'round_to': 8}
    """
    table: dict[str, Any] = {}
    for name, value in keywords.items():
        first, _, inner = name.partition("__")
        if value is not None:
            table = overlay(table, {first: {inner: value} if inner else value})
    return overlay(overlay(table, extra), settings or {})


def origin_of(source: Source, backbone: Mapping[str, Any]) -> Origin:
    """Convert a source into the source of a stage.

    Args:
        source: Name, path or object.
        backbone: Settings of a backbone that is passed by name.

    Raises:
        SettingsError: If a setting is wrong, or settings are passed for an existing model.
        ModelFileError: If the source looks like a model directory but is none.
    """
    if not isinstance(source, TicketFile | AdapterOnBase):
        return network_of(source, backbone)
    if backbone:
        raise _opened_source_error("this")
    return source


def network_of(source: Network, backbone: Mapping[str, Any]) -> Artifact | BackboneSettings:
    """Convert the source of a network; see `origin_of` for arguments and errors."""
    if isinstance(source, Mapping):
        # As the table `[backbone]` of a pipeline. Settings of the call win, as with a name.
        table = overlay(source, backbone)
        name = build(BackboneSettings, table, "backbone").source
        return network_of(name, {key: value for key, value in table.items() if key != "source"})
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        origin = model_source.find(name) or build(BackboneSettings, {"source": name, **backbone}, "backbone")
        if backbone and isinstance(origin, Artifact):
            raise _opened_source_error(name)
        return origin
    if backbone:
        raise _opened_source_error(repr(source))
    if isinstance(source, Result):
        return source.artifact
    if isinstance(source, Backbone):
        return source.settings
    if not isinstance(source, Artifact | BackboneSettings):
        hint = "pass a name, a path, a dictionary of `[backbone]`, a result, or `ex.load(...)`"
        raise SettingsError(f"a {type(source).__name__} is no source of a network", hint)
    return source


def _opened_source_error(name: str) -> SettingsError:
    return SettingsError(f"{name} is a model already: backbone settings have no effect on it")


def data_tables(data: Data | Sequence[Data] | None, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the table of each task: `data_table` of `data`, or of each of its entries, in order of time."""
    entries = data if isinstance(data, Sequence) and not isinstance(data, str) else [data]
    return [data_table(one, settings) for one in entries]


def data_table(data: Data | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Merge data and settings of data into one table; it has no source if `data` is None."""
    if data is None:
        return dict(settings)
    if isinstance(data, str | os.PathLike):
        return {**settings, "source": os.fspath(data)}
    chosen = data.settings if isinstance(data, Dataset) else data
    return overlay(chosen.plain() if isinstance(chosen, DataSettings) else chosen, settings)


def inner_table(settings: dict[str, Any], key: str) -> dict[str, Any]:
    """Remove the table `key` from settings, and return it; empty if there is none.

    Raises:
        SettingsError: If the value is not a table.
    """
    value = settings.pop(key, {})
    if not isinstance(value, dict):
        raise SettingsError(f"{key} is a table, not {value!r}", f"such as `{key}.source={value}`")
    return value


def path_of(model: PathLike | Result | Artifact) -> Path:
    """Return the path of a model."""
    return model.path if isinstance(model, Result | Artifact) else Path(model)
