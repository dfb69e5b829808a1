"""What a function starts from and on which data: names, paths, tables or objects, turned into what stages take."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effxfer import artifact
from effxfer.api.result import Backbone, Result
from effxfer.artifact import Artifact
from effxfer.data.listing import NOUNS, SPLITS, Listing
from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError
from effxfer.net.settings import BackboneSettings
from effxfer.prune.tickets.file import TicketFile
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.settings import build, overlay
from effxfer.stages.runner.source import Adapted
from effxfer.stages.runner.source import Source as Origin

if TYPE_CHECKING:
    from effxfer.data.task import Task

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Labelled images that were listed and split; nothing is decoded yet.

    Attributes:
        settings: The source, and how it is split.
        listing: Every image with its class and its split.
    """

    settings: DataSettings
    listing: Listing

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted."""
        return self.listing.classes

    @property
    def counts(self) -> dict[str, int]:
        """Images of each split: `train`, `val`, `test`."""
        return {split: len(self.listing.split(split)) for split in SPLITS}

    def task(self, size: int = 224) -> "Task":
        """Decode the images once and return them as memory-mapped arrays, uint8 `(N, size, size, 3)` a split.

        Raises:
            DataError: If an image cannot be read.
        """
        from effxfer.data.load import load as decode

        return decode(self.settings, Preprocess(size=size))

    def __str__(self) -> str:
        counts = ", ".join(f"{number} {split}" for split, number in self.counts.items())
        notes = [f"note: {note}" for note in self.listing.notes]
        return "\n".join(
            [f"{self.settings.source}: {len(self.classes)} {NOUNS[self.listing.labels]}; {counts} images", *notes]
        )


Network = PathLike | Result | Artifact | Backbone | BackboneSettings
Source = Network | TicketFile | Adapted
Data = PathLike | Mapping[str, Any] | Dataset | DataSettings


def load(source: PathLike, *, settings: Mapping[str, Any] | None = None, **backbone: Any) -> Result | Backbone:
    """Open a model directory or a bundled model, or name a pretrained network.

    Args:
        source: A model directory, the name of a bundled model, `timm:NAME[@FILE]`, `torchvision:NAME[@FILE]` or
            `package.module:factory`.
        settings: Settings of a backbone as a table; a value here wins over the same keyword.
        backbone: Settings of a backbone: `size`, `pretrained`, `args`, `crop`, `interpolation`, `mean`, `std`.

    Returns:
        A `Result` for a model directory, a `Backbone` for a name. Both have `.network()`.

    Raises:
        SettingsError: If a setting is unknown or impossible, or a model directory is passed settings.
        ModelFileError: If it looks like a model directory but is none.
    """
    origin = network_of(source, {**backbone, **(settings or {})})
    return Result.of(origin) if isinstance(origin, Artifact) else Backbone(settings=origin)


def load_data(
    source: PathLike, *, val_fraction: float | None = None, test_fraction: float | None = None,
    max_per_class: int | None = None, skip_bad: bool | None = None,
    settings: Mapping[str, Any] | None = None, **extra: Any,
) -> Dataset:  # fmt: skip
    """List and split labelled images.

    Args:
        source: A folder of class folders, a `.csv`, `.tsv` or `.parquet` table, or `digits`.
        val_fraction: Share of each class for validation where the source has no such split, in (0, 0.5].
        test_fraction: Share of each class for testing where the source has no splits, in (0, 0.5].
        max_per_class: Training images of each class to use; None uses all.
        skip_bad: Leave out unreadable images instead of stopping at them.
        settings: Other settings of data as a table; a value here wins over the same keyword.
        extra: Other settings of data by name.

    Raises:
        SettingsError: If a setting is unknown or impossible.
        DataError: If the source is absent or cannot be trained on.
    """
    from effxfer.data.load import scan

    table = table_of(
        settings, extra, source=os.fspath(source), val_fraction=val_fraction, test_fraction=test_fraction,
        max_per_class=max_per_class, skip_bad=skip_bad,
    )  # fmt: skip
    chosen = build(DataSettings, table, "data")
    return Dataset(settings=chosen, listing=scan(chosen))


def table_of(settings: Mapping[str, Any] | None, extra: Mapping[str, Any], **keywords: Any) -> dict[str, Any]:
    """Merge typed keywords (`fit__epochs` is `fit.epochs`, None is left out), other keywords, and a settings table.

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
    """Return what a stage starts from.

    Args:
        source: A name, a path or an object.
        backbone: Settings of a backbone that is named.

    Raises:
        SettingsError: If settings are passed for something that is there already, or are unknown or impossible.
        ModelFileError: If the source looks like a model directory but is none.
    """
    if not isinstance(source, TicketFile | Adapted):
        return network_of(source, backbone)
    if backbone:
        raise _already_opened("this")
    return source


def network_of(source: Network, backbone: Mapping[str, Any]) -> Artifact | BackboneSettings:
    """Return the network that a source names; arguments and errors as in `origin_of`."""
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        origin = artifact.find(name) or build(BackboneSettings, {"source": name, **backbone}, "backbone")
        if backbone and isinstance(origin, Artifact):
            raise _already_opened(name)
        return origin
    if backbone:
        raise _already_opened(repr(source))
    if isinstance(source, Result):
        return source.artifact
    return source.settings if isinstance(source, Backbone) else source


def _already_opened(name: str) -> SettingsError:
    return SettingsError(f"{name} is a model already: backbone settings have no effect on it")


def data_table(data: Data | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of data that a caller passed, in one table; without a source if it named none."""
    if data is None:
        return dict(settings)
    if isinstance(data, str | os.PathLike):
        return {**settings, "source": os.fspath(data)}
    chosen = data.settings if isinstance(data, Dataset) else data
    return overlay(chosen.plain() if isinstance(chosen, DataSettings) else chosen, settings)


def inner_table(settings: dict[str, Any], key: str) -> dict[str, Any]:
    """Take a table out of settings; empty if there is none.

    Raises:
        SettingsError: If it is not a table.
    """
    value = settings.pop(key, {})
    if not isinstance(value, dict):
        raise SettingsError(f"{key} is a table, not {value!r}", f"such as `{key}.source={value}`")
    return value


def path_of(model: PathLike | Result | Artifact) -> Path:
    """Return the directory or file that a model names."""
    return model.path if isinstance(model, Result | Artifact) else Path(model)
