"""Which columns of a summary table hold the model, its accuracy, latency and size."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from effxfer.report import Table
from effxfer.runtime.outputs.registry import METRICS

MAIN_METRICS = tuple(metric.lower() for metric in METRICS)
NOTHING = "\u2013"
DIGITS = r"[+\-\u2212]?\d[\d.,e+\-]*"
NUMBER = re.compile(rf"{DIGITS}( to {DIGITS})?( ?(%|ms|s|MB|GB|M|x|\u00d7))?( \[.*\])?( \(n=\d+\))?")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Column names found in a summary table; empty where there is none.

    Attributes:
        model: `model`, else the first column.
        accuracy: The main metric: the first that starts with the name of one.
        latency: The first that starts with `p50` and is in ms.
        ratio: The first with `ratio` in its name.
        size: The first that starts with `size`.
    """

    model: str = ""
    accuracy: str = ""
    latency: str = ""
    ratio: str = ""
    size: str = ""

    @classmethod
    def of(cls, table: Table) -> "Columns":
        """Find the columns of `table`; all are empty for a table without rows."""
        names = list(table.rows[0]) if table.rows else []
        return cls(
            model="model" if "model" in names else next(iter(names), ""),
            accuracy=next((n for n in names if n.lower().startswith(MAIN_METRICS)), ""),
            latency=next((n for n in names if n.lower().startswith("p50") and "ms" in n), ""),
            ratio=next((n for n in names if "ratio" in n.lower()), ""),
            size=next((n for n in names if n.lower().startswith("size")), ""),
        )


def column_texts(values: Sequence[Any]) -> list[str]:
    """Print the cells of one column so that decimal points line up: three significant digits of the smallest.

    >>> column_texts([33.94, 1.731, 4])
    ['33.94', '1.73', '4']
    """
    fractions = [abs(v) for v in values if isinstance(v, float) and math.isfinite(v) and v]
    # At most four places: one tiny value would otherwise widen every cell.
    places = min(4, max((max(0, 2 - math.floor(math.log10(v))) for v in fractions), default=0))
    return [_cell(value, places) for value in values]


def is_number(text: str) -> bool:
    """Tell whether a cell's text reads as a number or a range, also with a unit or an interval behind it."""
    return text in ("", NOTHING) or NUMBER.fullmatch(text) is not None


def _cell(value: Any, places: int) -> str:
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    return f"{value:.{places}f}" if math.isfinite(value) else NOTHING
