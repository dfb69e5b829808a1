"""All kinds of label by name, and how an output is read from JSON that anybody may have written."""

from collections.abc import Mapping
from typing import Any

from effxfer.runtime.model_file import strict
from effxfer.runtime.multi_task.task_outputs import BETWEEN, KINDS, TaskOutputs
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.runtime.outputs.span import ENDS, Span
from effxfer.runtime.outputs.tagging import Tagging

OUTPUTS: dict[str, type[MultiLabel | Regression | SingleLabel | Span | Tagging]] = {
    "multi": MultiLabel,
    "single": SingleLabel,
    "span": Span,
    "tags": Tagging,
    "value": Regression,
}
# Numbers of an output that are not one for each column.
COUNTS = {"threshold": 1}
# That of several tasks first: reports have rows of their own metrics beside it.
METRICS = tuple(dict.fromkeys(output.metric for output in (TaskOutputs, *OUTPUTS.values())))
# Kinds of single tasks, and several of them together.
ALL_KINDS = (*OUTPUTS, TaskOutputs.kind)
MOST_TASKS = 1000


def output_from_json(raw: Any) -> Output:
    """Read the values of `Output.to_json`.

    Raises:
        ValueError: If the kind or a field is unknown, or a list has another length than the classes; for the kind it is
            an `UnknownKindError`.
    """
    kind = raw.get("kind") if isinstance(raw, Mapping) else None
    if kind == TaskOutputs.kind:
        return _tasks_from_json(raw)
    if not isinstance(kind, str) or kind not in OUTPUTS:
        raise strict.UnknownKindError(f"an output of kind {kind!r:.60}, none of {', '.join(OUTPUTS)}")
    classes = strict.labels(raw.get("classes"))
    numbers = {name: strict.numbers(name, value) for name, value in raw.items() if name not in ("kind", "classes")}
    if wrong := [n for n, values in numbers.items() if len(values) not in (0, COUNTS.get(n, len(classes)))]:
        raise ValueError(f"{wrong[0]} has {len(numbers[wrong[0]])} numbers for {len(classes)} columns")
    if kind == Span.kind and len(classes) != len(ENDS):
        raise ValueError(f"a span has {len(ENDS)} columns, not {len(classes)}")
    try:
        return OUTPUTS[kind](classes=classes, **numbers)
    except TypeError:
        raise ValueError(f"unknown field among {', '.join(map(str, numbers))}") from None


def _tasks_from_json(raw: Mapping[str, Any]) -> TaskOutputs:
    tasks = raw.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, Mapping) for task in tasks):
        raise ValueError("tasks is no list of outputs")
    if not 1 < len(tasks) <= MOST_TASKS:
        raise ValueError(f"tasks is no list of 2 to {MOST_TASKS} outputs")
    if unknown := [name for name in raw if name not in ("kind", "tasks", "main", "auxiliary")]:
        raise ValueError(f"unknown field {unknown[0]!r:.60}")
    names = strict.labels([task.get("name") for task in tasks])
    if bad := [name for name in names if BETWEEN in name]:
        raise ValueError(f"the task {bad[0]!r:.60} has {BETWEEN!r} in its name")
    if wrong := [task.get("kind") for task in tasks if task.get("kind") not in KINDS]:
        raise strict.UnknownKindError(f"a task of kind {wrong[0]!r:.60}, none of {', '.join(KINDS)}")
    if len(set(names)) < len(names):
        raise ValueError("two tasks have one name")
    outputs = {
        name: output_from_json({key: value for key, value in task.items() if key != "name"})
        for name, task in zip(names, tasks, strict=True)
    }
    roles = {role: _role(role, raw.get(role, []), outputs) for role in ("main", "auxiliary")}
    if set(roles["auxiliary"]) >= outputs.keys():
        raise ValueError("all tasks are auxiliary")
    return TaskOutputs(outputs=outputs, **roles)


def _role(role: str, names: Any, outputs: Mapping[str, Output]) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) and name in outputs for name in names):
        raise ValueError(f"{role} is no list of tasks")
    return tuple(names)
