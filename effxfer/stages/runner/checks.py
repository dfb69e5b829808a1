"""Checks before a stage runs: its strategies, networks, files and external resources."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from effxfer import model_source
from effxfer.data.listing import Listing, first_names
from effxfer.errors import SettingsError
from effxfer.net.settings import BackboneSettings
from effxfer.runtime.inputs import Input
from effxfer.runtime.outputs.masked_token import MaskedToken
from effxfer.runtime.text.tokens import Tokens
from effxfer.stages.runner.source import AdapterOnBase, Source
from effxfer.stages.settings.base import StageSettings

if TYPE_CHECKING:
    from effxfer.net.net import Net

NOT_CHECKED = (
    "not checked without running: that weights can be downloaded and fit, what is in the images (`effxfer check`), "
    "names of layers, targets of latency and size, room on the disk, memory and time"
)


def check_settings(settings: StageSettings, recipe: Mapping[str, Any] | None = None) -> None:
    """Check the strategies and options of a stage, the networks that it names, and its external resources.

    Args:
        settings: Settings of the stage.
        recipe: Recipe of the ticket to train; None without a ticket, or if the ticket does not exist yet.

    Raises:
        SettingsError: If a strategy or a network does not exist, or an option is wrong.
        ModelFileError: If a model directory or a weights file is absent.
        ResourceError: If the database server for trials does not answer.
    """
    from effxfer.transfer import SELF_SUPERVISED, STRATEGIES
    from effxfer.transfer.strategies import select_strategy

    table = SELF_SUPERVISED if settings.without_labels else STRATEGIES
    for name, options in settings.strategies(recipe):
        select_strategy(table, name, options)
    for backbone in other_networks(settings):
        check_backbone(backbone)
    settings.check_resources()


def check_strategies(settings: StageSettings, listings: Sequence[Listing], recipe: Mapping[str, Any] | None) -> None:
    """Check that the strategies of a stage learn from its data, before any example is loaded.

    Raises:
        SettingsError: If one does not.
    """
    from effxfer.transfer.strategies import make_strategy, require_data, require_examples

    for listing in listings[-1:]:
        _check_labels(settings, listing)
    for name, options in settings.strategies(recipe):
        if settings.without_labels:
            for listing in listings[-1:]:
                require_examples(name, listing.unit, listing.name)
            continue
        for listing in listings[-1:]:
            target = listing.target
            # With some classes of its own it is loaded with the shared ones alone.
            has_target = bool(listing.unlabelled) or (
                target is not None and bool(set(target.classes) & set(listing.classes))
            )
            described = listing.class_embeddings is not None
            labels = MaskedToken.kind if listing.labels == "none" else listing.labels
            strategy = make_strategy(name, options)
            if not has_target and target is not None and (strategy.adapts_domain or strategy.validator != "source"):
                raise _other_classes(name, listing, target)
            require_data(strategy, listing.name, listing.unit, labels, has_target, described)
            strategy.require_classes(listing.classes)
            strategy.require_kinds(listing.tasks)


def _check_labels(settings: StageSettings, listing: Listing) -> None:
    """Refuse several tasks, and kinds of label, that a stage does not understand."""
    if listing.tasks and not settings.several_tasks:
        text = f"this stage takes one task, {listing.name} has {len(listing.tasks)}: {', '.join(listing.tasks)}"
        hint = (
            "name the data of one task; of a table with several, set labels to a kind and label_column to one of them"
        )
        raise SettingsError(text, hint)
    if settings.takes and listing.labels not in settings.takes:
        kinds = " or ".join(settings.takes)
        text = f"this stage needs labels of kind {kinds}, {listing.name} holds kind {listing.labels!r}"
        raise SettingsError(text, "use finetune")


def _other_classes(name: str, listing: Listing, target: Listing) -> SettingsError:
    """Return the error of a strategy for the same classes whose target has others."""
    text = f"strategy {name!r} adapts to the classes of {listing.name}, {first_names(listing.classes)}, and its target"
    spelling = {label.casefold() for label in listing.classes} & {label.casefold() for label in target.classes}
    hint = "rename the target's classes: they differ in case" if spelling else "name a target of the same classes"
    return SettingsError(f"{text} {target.name} has others: {first_names(target.classes)}", hint)


def strategy_input(net: "Net", settings: StageSettings, listing: Listing, recipe: Mapping[str, Any] | None) -> Input:
    """Return the input that a stage's strategy needs, such as one with a pattern; with several, the network's own.

    Args:
        net: The network.
        settings: Settings of the stage.
        listing: The data that it will be trained on.
        recipe: See `check_settings`.

    Raises:
        SettingsError: If a strategy cannot train the network, or its pattern takes pairs where there are none.
    """
    from effxfer.transfer.strategies import make_strategy

    if settings.without_labels:
        return net.input
    inputs = [make_strategy(name, options).input_for(net) for name, options in settings.strategies(recipe)]
    input = inputs[0] if inputs and all(other == inputs[0] for other in inputs) else net.input
    if isinstance(input, Tokens) and listing.texts:
        is_pair = isinstance(next(iter(listing.texts.values())), tuple)
        if is_pair != input.takes_pairs:
            text = f"the pattern {input.pattern!r:.80} takes {'pairs of' if input.takes_pairs else 'single'} texts"
            raise SettingsError(f"{text}, {listing.name} has others", "write {other} for the second text of a pair")
    return input


def other_networks(settings: StageSettings) -> Iterator[BackboneSettings]:
    """Yield the networks that a stage names in addition to its input network."""
    for backbones in settings.networks.values():
        yield from backbones
    if settings.teacher_network:
        yield settings.teacher_network


def check_source(source: Source) -> None:
    """Check that the input of a stage exists, without opening it."""
    base = source.base if isinstance(source, AdapterOnBase) else source
    if isinstance(base, BackboneSettings):
        check_backbone(base)


def check_backbone(backbone: BackboneSettings) -> None:
    """Check that a network and its directory or weights file exist; the network is not built.

    Raises:
        SettingsError: If its library has no network of this name, or its module does not exist.
        ModelFileError: If its directory or weights file is absent.
    """
    from effxfer.net.backbones.architectures import require

    try:
        if model_source.find(backbone.source) is None:
            # Reads the weights file to digest it, and so finds out whether it is there.
            backbone.identity()
            require(backbone.source)
    except SettingsError as error:
        raise SettingsError(f"backbone {backbone.source}: {error.problem}", error.hint, code=error.code) from None
