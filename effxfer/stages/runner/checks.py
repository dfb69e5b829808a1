"""What is checked of a stage before it has anything to work on: its strategies, and the networks and files it names."""

from collections.abc import Iterator, Mapping
from typing import Any

from effxfer import artifact
from effxfer.errors import SettingsError
from effxfer.net.settings import BackboneSettings
from effxfer.stages.runner.source import Adapted, Source
from effxfer.stages.settings.base import StageSettings

NOT_CHECKED = (
    "not checked without running: that weights can be downloaded and fit, what is in the images (`effxfer check`), "
    "names of layers, targets of latency and size, room on the disk, memory and time"
)


def check_settings(settings: StageSettings, recipe: Mapping[str, Any] | None = None) -> None:
    """Check a stage's strategies by their own settings, the networks that it names, and what it needs outside.

    Args:
        settings: Of the stage.
        recipe: Of the ticket that it trains, if it does; None where that is not known yet.

    Raises:
        SettingsError: If a strategy does not exist or does not take its options, or a network is unknown.
        ModelFileError: If a model directory or a weights file is absent.
        ResourceError: If trials are to be kept at a server that does not answer.
    """
    from effxfer.transfer.strategies import make_strategy

    for name, options in settings.strategies(recipe):
        make_strategy(name, options)
    for other in other_networks(settings):
        check_backbone(other)
    settings.check_resources()


def other_networks(settings: StageSettings) -> Iterator[BackboneSettings]:
    """Yield the networks that a stage names beside the one that it starts from."""
    for backbones in settings.networks.values():
        yield from backbones
    if settings.teacher_network:
        yield settings.teacher_network


def check_source(source: Source) -> None:
    """Make sure that what a stage starts from is there, as far as that can be seen without opening it."""
    base = source.base if isinstance(source, Adapted) else source
    if isinstance(base, BackboneSettings):
        check_backbone(base)


def check_backbone(backbone: BackboneSettings) -> None:
    """Make sure that a network is known, and that its directory or weights file is there; nothing is built.

    Raises:
        SettingsError: If its library has none of this name, or there is no such module.
        ModelFileError: If it names a directory or a file that is absent.
    """
    from effxfer.net.backbones.architectures import require

    try:
        if artifact.find(backbone.source) is None:
            # Reads the weights file to digest it, and so finds out whether it is there.
            backbone.identity()
            require(backbone.source)
    except SettingsError as error:
        raise SettingsError(f"backbone {backbone.source}: {error.problem}", error.hint, code=error.code) from None
