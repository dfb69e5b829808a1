"""Preconditions of pruning: no unmerged adapter, no strategy that adds one, and a head that can be followed."""

from typing import Any

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.merge import MERGEABLE, adapters
from effxfer.net.net import Net
from effxfer.prune.vocabulary.vocabulary import check_vocabulary
from effxfer.stages.settings.base import StageSettings
from effxfer.stages.settings.prune_settings import Gradual
from effxfer.transfer.strategies import make_strategy

# Stages that make layers smaller.
REMOVES_CHANNELS = ("prune channels", "prune compact", "prune structured", "shrink")


def check_prunable(stage: str, net: Net, settings: StageSettings) -> None:
    """Refuse to prune a network with an adapter, or with a strategy that adds one.

    Raises:
        ModelFileError: If the network has an unmerged adapter.
        SettingsError: If the strategy adds an adapter that stays separate, or trains one while weights are removed; or
            if channels are removed below a learned comparison.
    """
    heads = [getattr(net.head, "distance", "")]
    heads += [str((make_strategy(*each).head() or {}).get("distance")) for each in settings.strategies(None)]
    if stage in REMOVES_CHANNELS and "relation" in heads:
        # It reads prototypes as an input of its own, which the tracing of channels does not follow.
        text = f"{stage}: features that a learned comparison reads cannot be made fewer"
        raise SettingsError(text, "take strategy prototypes, or remove single weights by `effxfer prune`")
    if unmerged := [edit["kind"] for edit in adapters(net)]:
        hint = "prune first, and adapt what is left: tickets keep their zeros"
        if unmerged[0] in MERGEABLE:
            hint = "merge it: `effxfer finetune` with `options.merge=true`, or `effxfer adapter apply`"
        text = f"{stage}: the network has an adapter that is not merged ({unmerged[0]})"
        raise ModelFileError(text, hint, code="E412")
    for name, options in settings.strategies(None):
        _check_strategy(stage, name, options, during=isinstance(settings, Gradual))


def check_vocabulary_prunable(stage: str, net: Net, settings: StageSettings) -> None:
    """Refuse to prune the vocabulary of a network without one, or one with an adapter or a memory.

    Raises:
        SettingsError: If the network takes no texts, or keeps texts of former tasks as ids of the present vocabulary.
        ModelFileError: If its encoder or tokenizer is of another kind, or it has an unmerged adapter.
    """
    check_vocabulary(net)
    if net.memory is not None:
        text = f"{stage}: the network's memory holds texts of former tasks in the present vocabulary"
        raise SettingsError(text, "prune the vocabulary before `effxfer continual`, or finetune the network first")
    check_prunable(stage, net, settings)


def _check_strategy(stage: str, name: str, options: dict[str, Any], *, during: bool) -> None:
    strategy = make_strategy(name, options)
    if strategy.keeps_adapters() or (strategy.adds and during):
        text = f"{stage}: strategy {name} puts an adapter on the network that stays while it is pruned"
        raise SettingsError(text, "prune with strategy full, and adapt what is left by `finetune`")
