"""What can be known of a stage before it has anything to work on: its strategy, and the networks and files it names."""

from collections.abc import Iterator, Mapping
from typing import Any

from effxfer import artifact
from effxfer.errors import SettingsError
from effxfer.net.settings import BackboneSettings
from effxfer.settings import Settings
from effxfer.stages.settings.common import Search
from effxfer.stages.settings.compete_settings import Compete
from effxfer.stages.settings.ticket_settings import Ticket

OTHERS = ("backbones", "control_backbones")
NOT_CHECKED = (
    "not checked without running: that weights can be downloaded and fit, what is in the images (`effxfer check`), "
    "names of layers, targets of latency and size, room on the disk, memory and time"
)


def check_settings(settings: Settings, recipe: Mapping[str, Any] | None = None) -> None:
    """Check a stage's strategies by the models of their own, the networks that it names, and where trials are kept.

    Args:
        settings: Of the stage.
        recipe: Of the ticket that it trains, if it does; None where that is not known yet.

    Raises:
        SettingsError: If a strategy does not exist or does not take its options, or a network is unknown.
        ModelFileError: If a model directory or a weights file is absent.
        ResourceError: If trials are to be kept at a server that does not answer.
    """
    from effxfer.stages.train.finetune import choose

    for name, options in strategies(settings, recipe):
        choose(name, options)
    for other in others(settings):
        check_backbone(other)
    if isinstance(settings, Search):
        from effxfer.search.storage.backends import check_place

        check_place(settings.storage)


def strategies(settings: Settings, recipe: Mapping[str, Any] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the strategies that a stage trains by, with their options.

    Raises:
        SettingsError: If a candidate of a competition has none that works.
    """
    if isinstance(settings, Compete):
        from effxfer.stages.train.compete import workable

        recipes = [workable(name, one, settings) for name, one in settings.recipes().items()]
        yield from ((one.strategy, one.options) for one in recipes)
    elif isinstance(settings, Ticket):
        if recipe is not None:
            yield settings.training(recipe)[:2]
    elif strategy := getattr(settings, "strategy", None):
        yield strategy, getattr(settings, "options", {})


def others(settings: Settings) -> Iterator[BackboneSettings]:
    """Give the networks that a stage names beside the one that it starts from."""
    for name in OTHERS:
        yield from getattr(settings, name, ())
    teacher = getattr(settings, "teacher", None)
    if teacher and teacher.source:
        yield BackboneSettings(source=teacher.source)


def check_backbone(backbone: BackboneSettings) -> None:
    """Make sure that a network is known, and that its directory or weights file is there; nothing is built.

    Raises:
        SettingsError: If its library has none of this name, or there is no such module.
        ModelFileError: If it names a directory or a file that is absent.
    """
    from effxfer.net.backbones.architectures import require

    try:
        if artifact.find(backbone.source) is None:
            backbone.identity()
            require(backbone.source)
    except SettingsError as error:
        raise SettingsError(f"backbone {backbone.source}: {error.problem}", error.hint, code=error.code) from None
