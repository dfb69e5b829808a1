"""Measurements with their unit, range, n and denominator, and their layout as text."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from effxfer.runtime.printing import printable

if TYPE_CHECKING:
    from effxfer.runtime.outputs.base import Score

INDICES = ("F1", "R2", "mAP", "macro F1", "score/")  # metrics in points that are no share of the examples


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One measured number.

    Attributes:
        name: Name of the quantity, such as `accuracy/test`.
        value: The central value; for repeated runs, their median.
        unit: `%`, `ms`, `MB`, `x` (a ratio), `M` (millions) or empty for a plain count.
        low: Smallest of the repeats, or lower end of the interval; equal to `value` for a single run.
        high: Largest of the repeats, or upper end of the interval.
        n: Number of repeats, images or trials.
        of: The denominator of a share, such as `prunable weights`; empty if there is none.
    """

    name: str
    value: float
    unit: str = ""
    low: float = float("nan")
    high: float = float("nan")
    n: int = 1
    of: str = ""

    def __post_init__(self) -> None:
        for end in ("low", "high"):
            if getattr(self, end) != getattr(self, end):
                object.__setattr__(self, end, self.value)

    @classmethod
    def spread(cls, name: str, values: Iterable[float], unit: str = "", of: str = "") -> "Measurement":
        """Summarise repeats by their median and range."""
        ordered = sorted(values)
        return cls(name=name, value=median(ordered), unit=unit, low=ordered[0], high=ordered[-1], n=len(ordered), of=of)

    @classmethod
    def from_score(cls, name: str, score: "Score") -> "Measurement":
        """Name a score by its metric and `name`, such as `val` or `val/int8`; a task comes behind the split."""
        full_name = score_name(score.metric, name, score.task)
        return cls(name=full_name, value=score.value, unit=score.unit, n=score.n, of=score.of)

    def __str__(self) -> str:
        # Four digits: the interval of a timing is seldom below 0.1 %, and a share of 10,000 images has no more.
        text = f"{self.value:.4g} {self.unit}".rstrip()
        if self.low != self.high:
            text += f" [{self.low:.4g}, {self.high:.4g}]"
        # A number in the user's unit is no share, nor is R2: an error of 4.43 degrees, measured on 2,000 images.
        is_share = bool(self.unit) and not self.name.startswith(INDICES)
        text += f" of {self.of}" if self.of and is_share else ""
        counted = f" {self.of}" if self.of and not is_share else ""
        return text + (f" (n={self.n}{counted})" if self.n > 1 else "")


def score_name(metric: str, name: str, task: str = "") -> str:
    """Return the name of a score's row: a task comes behind the split.

    >>> score_name("accuracy", "val/int8", "colour")
    'accuracy/val/colour/int8'
    """
    split, *precision = name.split("/")
    return "/".join((metric, split, *((task,) if task else ()), *precision))


@dataclass(frozen=True, kw_only=True)
class Table:
    """A small table: one dict per row, all with the same keys.

    Attributes:
        title: Title of the table.
        rows: Cells are strings or numbers; a number is printed with four significant digits.
    """

    title: str
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points to plot.

    Attributes:
        title: Title of the plot; curves of one title share a plot.
        name: The legend entry of this curve.
        x: Label of the horizontal axis, with unit.
        y: Label of the vertical axis, with unit.
        points: `(x, y)` pairs.
        line: Join the points; otherwise scatter.
        labels: Names of the points, written beside them; empty for none.
    """

    title: str
    name: str
    x: str
    y: str
    points: tuple[tuple[float, float], ...]
    line: bool = True
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """Measurements of a stage, in their order.

    Attributes:
        rows: Single figures.
        notes: Sentences a reader must know to trust the figures.
        tables: Comparisons.
        curves: Curves to plot.
    """

    rows: tuple[Measurement, ...] = ()
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    curves: tuple[Curve, ...] = ()

    def __add__(self, other: "Report") -> "Report":
        return Report(
            rows=self.rows + other.rows,
            notes=self.notes + other.notes,
            tables=self.tables + other.tables,
            curves=self.curves + other.curves,
        )

    def __getitem__(self, name: str) -> Measurement:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def get(self, name: str) -> float | None:
        """Return the value of the row `name`, or None."""
        return next((row.value for row in self.rows if row.name == name), None)

    @property
    def metric(self) -> str:
        """Name of the main metric that it has rows of; `accuracy` if there are none."""
        # Not above: it imports numpy, without which `doctor` has to report on a broken installation.
        from effxfer.runtime.outputs.registry import METRICS

        names = {row.name.partition("/")[0] for row in self.rows}
        return next((metric for metric in METRICS if metric in names), "accuracy")

    @property
    def scores(self) -> tuple[Measurement, ...]:
        """The rows of the main metric: `METRIC/SPLIT`, or `METRIC/SPLIT/PRECISION`."""
        return tuple(row for row in self.rows if row.name.startswith(f"{self.metric}/"))

    def score(self, name: str) -> float | None:
        """Return the main metric of `SPLIT` or `SPLIT/PRECISION`, or None."""
        return self.get(f"{self.metric}/{name}")

    def to_json(self) -> dict[str, Any]:
        """Return plain values for `json.dumps`; `labels` of curves only where there are any."""
        plain = asdict(self)
        for curve in plain["curves"]:
            if not curve["labels"]:
                del curve["labels"]
        return plain

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Report":
        """Read the values of `to_json`, directly or from JSON text."""
        return cls(
            rows=tuple(Measurement(**row) for row in raw["rows"]),
            notes=tuple(raw["notes"]),
            tables=tuple(Table(title=t["title"], rows=tuple(t["rows"])) for t in raw["tables"]),
            curves=tuple(_read_curve(curve) for curve in raw["curves"]),
        )

    def __str__(self) -> str:
        names = [printable(row.name) for row in self.rows]
        width = max(map(len, names), default=0)
        lines = [f"{name:<{width}}  {printable(row)}" for name, row in zip(names, self.rows, strict=True)]
        lines += [text for table in self.tables for text in ("", *table_lines(table))]
        return "\n".join(lines + [f"note: {printable(note)}" for note in self.notes])


def _read_curve(raw: Mapping[str, Any]) -> Curve:
    points = tuple((x, y) for x, y in raw["points"])
    return Curve(**{**raw, "points": points, "labels": tuple(raw.get("labels", ()))})


def score_column(row: Mapping[str, Any]) -> str:
    """Return the column of the main metric on the validation split, `METRIC val %`; empty if a table has none."""
    return next((name for name in row if name.endswith(" val %")), "")


def extent(values: Iterable[int]) -> int | str:
    """Format the values of repeats in one cell: the number, or `2 to 5` if they differ.

    >>> extent([3, 3]), extent([5, 2])
    (3, '2 to 5')
    """
    ordered = sorted(values)
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"


def table_lines(table: Table) -> list[str]:
    """Lay out a table for a terminal, numbers to the right; control characters in names are shown as text."""
    # Not rich.table: it cuts cells to the width of the console, in a pipe as well, and its import takes 0.17 s.
    title = printable(table.title)
    if not table.rows:
        return [title, "  (empty)"]
    columns = list(table.rows[0])
    cells = [[printable(c) for c in columns], *([printable(cell(row[c])) for c in columns] for row in table.rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    numeric = [all(isinstance(row[c], int | float) or row[c] in ("", None) for row in table.rows) for c in columns]
    aligned = [
        "  ".join(f"{c:>{w}}" if n else f"{c:<{w}}" for c, w, n in zip(line, widths, numeric, strict=True)).rstrip()
        for line in cells
    ]
    return [title, *aligned]


def cell(value: object) -> str:
    """Print one cell: four significant digits for a fraction, nothing for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
