"""A strategy from its name and its options."""

from typing import Any

from effxfer.errors import SettingsError, did_you_mean
from effxfer.settings import build
from effxfer.transfer import STRATEGIES
from effxfer.transfer.base import Strategy


def make_strategy(name: str, options: dict[str, Any]) -> Strategy:
    """Build a strategy.

    Args:
        name: A key of `STRATEGIES`.
        options: Its own settings.

    Raises:
        SettingsError: If there is no such strategy, or its options are wrong.
    """
    if name not in STRATEGIES:
        hint = f"strategies are: {', '.join(STRATEGIES)}"
        raise SettingsError(f"no strategy {name!r}{did_you_mean(name, STRATEGIES)}", hint)
    return build(STRATEGIES[name], options, f"options of strategy {name}")
