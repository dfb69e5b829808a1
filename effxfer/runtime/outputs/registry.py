"""All kinds of label by name, and how an output is read from JSON that anybody may have written."""

from collections.abc import Mapping
from typing import Any

from effxfer.runtime.model_file import strict
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
METRICS = tuple(dict.fromkeys(output.metric for output in OUTPUTS.values()))


def output_from_json(raw: Any) -> Output:
    """Read the values of `Output.to_json`.

    Raises:
        ValueError: If the kind or a field is unknown, or a list has another length than the classes; for the kind it is
            an `UnknownKindError`.
    """
    kind = raw.get("kind") if isinstance(raw, Mapping) else None
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
