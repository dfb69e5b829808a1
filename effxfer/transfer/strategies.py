"""Build a strategy from its name and its options."""

from collections.abc import Mapping
from typing import Any, TypeVar

from effxfer.data.class_embeddings import NEEDED
from effxfer.data.task import Task
from effxfer.errors import SettingsError, did_you_mean
from effxfer.runtime.inputs import INPUTS
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.masked_token import MaskedToken
from effxfer.settings import build
from effxfer.transfer import SELF_SUPERVISED, STRATEGIES
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
    described = task.class_embeddings is not None
    require_data(strategy, task.name, task.input.unit, task.output.kind, described=described)


def require_data(
    strategy: Strategy, name: str, unit: str, labels: str, has_target: bool = True, described: bool = True
) -> None:
    """Check a strategy like `require_kind`, by what is known of data before any example is loaded.

    Args:
        strategy: The strategy.
        name: Name of the data.
        unit: What they hold, such as `images`.
        labels: Their kind of label.
        has_target: Whether there are examples of a target, or without labels.
        described: Whether there are class embeddings.

    Raises:
        SettingsError: If it does not learn from them.
    """
    kind = next(key for key, input in INPUTS.items() if input.unit == unit)
    fit = {key: cls for key, cls in STRATEGIES.items() if kind in cls.inputs}
    able = ", ".join(key for key, cls in fit.items() if labels in cls.takes or labels == MaskedToken.kind)
    if kind not in strategy.inputs:
        needed = " or ".join(sorted(INPUTS[key].unit for key in strategy.inputs))
        text = f"strategy {_name_of(strategy)!r} needs {needed}, {name} holds {unit}"
        raise SettingsError(text, f"strategies that learn from {unit} with such labels: {able}")
    if labels == MaskedToken.kind and labels not in strategy.takes:
        hint = f"`effxfer pretrain` learns from {unit} alone; otherwise set `labels` to what their labels are"
        raise SettingsError(f"strategy {_name_of(strategy)!r} needs labels, and {name} has none", hint)
    if labels not in strategy.takes:
        problem = f"strategy {_name_of(strategy)!r} learns labels of kind {' or '.join(sorted(strategy.takes))}"
        tables = "give several `data`, or a table with several label_columns; "
        hint = f"{tables if strategy.takes == {TaskOutputs.kind} else ''}strategies that learn them from {unit}: {able}"
        raise SettingsError(f"{problem}, the data hold kind {labels!r}", hint)
    if (strategy.adapts_domain or strategy.validator != "source") and not has_target:
        asks = f"validator {strategy.validator!r}" if not strategy.adapts_domain else f"strategy {_name_of(strategy)!r}"
        text = f"{asks} looks at {unit} of another domain of the same classes, and {name} has none"
        raise SettingsError(text, "name them with data.target, or data.unlabelled")
    if strategy.needs_class_embeddings and not described:
        text = f"strategy {_name_of(strategy)!r} learns from what is said about classes, and {name} says nothing"
        raise SettingsError(text, NEEDED)
    _check_options(strategy, labels)


def require_examples(name: str, unit: str, data: str) -> None:
    """Check that a strategy of `SELF_SUPERVISED` learns from what data hold, before any example is loaded.

    Args:
        name: Name of the strategy.
        unit: What the data hold, such as `images`.
        data: Name of the data.

    Raises:
        SettingsError: If it does not, with the strategies that do.
    """
    able = [key for key, cls in SELF_SUPERVISED.items() if unit in {INPUTS[kind].unit for kind in cls.inputs}]
    if name not in able:
        hint = f"strategies that learn from {unit}: {', '.join(able) or 'none yet'}"
        raise SettingsError(f"strategy {name!r} does not learn from {unit}, which {data} holds", hint)


def _check_options(strategy: Strategy, labels: str) -> None:
    """Refuse options that say nothing about labels of a kind: without effect they would promise one."""
    useful = {
        "balance": ("single",), "label_smoothing": ("single", "multi", "tags", "tasks"),
        "multi_label": ("multi", "tasks"),
    }  # fmt: skip
    for option, kinds in useful.items():
        default = Strategy.model_fields[option].default
        if labels not in kinds and getattr(strategy, option) != default:
            problem = f"options.{option} has no effect on labels of kind {labels!r}"
            raise SettingsError(problem, f"leave it out; it is for kind {' or '.join(kinds)}")


def _name_of(strategy: Strategy) -> str:
    return next(name for name, cls in STRATEGIES.items() if cls is type(strategy))
