"""Build a strategy from its name and its options."""

from collections.abc import Mapping
from typing import Any, TypeVar

from effxfer.data.task import Task
from effxfer.errors import SettingsError, did_you_mean
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.masked_token import MaskedToken
from effxfer.settings import build
from effxfer.transfer import STRATEGIES
from effxfer.transfer.base import Strategy

S = TypeVar("S", bound=Strategy)


def make_strategy(name: str, options: dict[str, Any]) -> Strategy:
    """Build a strategy of `STRATEGIES`; see `select_strategy`."""
    return select_strategy(STRATEGIES, name, options)


def select_strategy(table: Mapping[str, type[S]], name: str, options: dict[str, Any]) -> S:
    """Build a strategy of a table.

    Args:
        table: `STRATEGIES` or `SELF_SUPERVISED`.
        name: Its key in the table.
        options: Settings of the strategy.

    Raises:
        SettingsError: If there is no such strategy, or an option is wrong.
    """
    if name not in table:
        hint = f"strategies are: {', '.join(table)}"
        raise SettingsError(f"no strategy {name!r}{did_you_mean(name, table)}", hint)
    return build(table[name], options, f"options of strategy {name}")


def require_kind(strategy: Strategy, task: Task) -> None:
    """Check that a strategy learns from the examples and the labels of a task, and that its options have an effect.

    Raises:
        SettingsError: If it does not, with the strategies that do, or with the option that has no effect.
    """
    output, input = task.output, task.input
    if input.kind not in strategy.inputs:
        able = ", ".join(key for key, cls in STRATEGIES.items() if input.kind in cls.inputs)
        hint = f"strategies that learn from {input.unit}: {able}"
        raise SettingsError(f"strategy {_name_of(strategy)!r} needs images, {task.name} holds {input.unit}", hint)
    if output.kind in strategy.takes:
        _check_options(strategy, output)
        return
    if isinstance(output, MaskedToken):
        hint = "`effxfer pretrain` learns from texts alone; otherwise set `labels` to what their labels are"
        raise SettingsError(f"strategy {_name_of(strategy)!r} needs labels, and {task.name} has none", hint)
    able = ", ".join(key for key, cls in STRATEGIES.items() if output.kind in cls.takes)
    problem = f"strategy {_name_of(strategy)!r} learns labels of kind {' or '.join(sorted(strategy.takes))}"
    raise SettingsError(f"{problem}, the data hold kind {output.kind!r}", f"strategies that learn them: {able}")


def _check_options(strategy: Strategy, output: Output) -> None:
    """Refuse options that say nothing about labels of a kind: without effect they would promise one."""
    useful = {"balance": ("single",), "label_smoothing": ("single", "multi", "tags"), "multi_label": ("multi",)}
    for option, kinds in useful.items():
        default = Strategy.model_fields[option].default
        if output.kind not in kinds and getattr(strategy, option) != default:
            problem = f"options.{option} has no effect on labels of kind {output.kind!r}"
            raise SettingsError(problem, f"leave it out; it is for kind {' or '.join(kinds)}")


def _name_of(strategy: Strategy) -> str:
    return next(name for name, cls in STRATEGIES.items() if cls is type(strategy))
