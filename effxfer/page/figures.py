"""Plots of a report page as plain plotly.js figures; colours come from the page, which knows light from dark.

Figures are dicts and not `plotly.graph_objects`: those take 0.7 s more for a first figure, and do not
shorten the code. A test validates every kind of figure with them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import escape

from effxfer.page.columns import Columns
from effxfer.page.label_placement import place_labels
from effxfer.pareto import pareto_front
from effxfer.report import Curve, Table

Figure = dict[str, Any]

# Pixels. The smallest can still be hit with a pointer; the largest leaves room for a label in a plot of 330.
SMALLEST, LARGEST = 11.0, 36.0
FALLING = "remaining"


def pareto(summary: Table) -> Figure | None:
    """Plot accuracy against p50 latency; a marker's area is the file size, and a line joins the Pareto front.

    Args:
        summary: With the columns that `Columns` looks for.

    Returns:
        A figure, or None unless at least one model has both an accuracy and a latency.
    """
    columns = Columns.of(summary)
    if not (columns.accuracy and columns.latency):
        return None
    rows = [r for r in summary.rows if _is_finite(r[columns.accuracy]) and _is_finite(r[columns.latency])]
    if not rows:
        return None
    front = pareto_front([(float(r[columns.latency]), float(r[columns.accuracy])) for r in rows])
    return {
        "data": [_front_line(rows, columns, front), *_markers(rows, columns, front)],
        "layout": {
            "xaxis": {"title": {"text": _text(columns.latency)}, **_latency_axis(rows, columns)},
            "yaxis": {"title": {"text": _text(columns.accuracy)}},
            "showlegend": False,
            "hovermode": "closest",
        },
        "tall": True,
    }


def curve_figures(curves: Iterable[Curve]) -> list[tuple[str, Figure]]:
    """Plot curves, those of one title and the same axes together.

    Returns:
        Titles and figures in the order of first appearance; curves without a finite point are left out.
    """
    groups: dict[tuple[str, str, str], list[Curve]] = {}
    for curve in curves:
        if any(math.isfinite(x) and math.isfinite(y) for x, y in curve.points):
            groups.setdefault((curve.title, curve.x, curve.y), []).append(curve)
    return [(title, _curves(group, x, y)) for (title, x, y), group in groups.items()]


def _curves(group: Sequence[Curve], x: str, y: str) -> Figure:
    xaxis: dict[str, Any] = {"title": {"text": _text(x)}}
    positions = [point for curve in group for point, _ in curve.points]
    if FALLING in x:
        xaxis["autorange"] = "reversed"
        # Weights remaining fall by a factor per round; over less than a factor of 5 a straight axis reads better.
        if min(positions) > 0 and max(positions) / min(positions) > 5:
            xaxis |= _log_ticks(positions)
    elif all(float(v).is_integer() for v in positions):
        # A tick for each of up to 9 epochs; of more, plotly chooses some.
        xaxis |= {"tickformat": "d"} if max(positions) - min(positions) > 8 else {"dtick": 1, "tickformat": "d"}
    return {
        "data": [_trace(curve) for curve in group],
        "layout": {
            "xaxis": xaxis,
            "yaxis": {"title": {"text": _text(y)}},
            "showlegend": len(group) > 1,
            "hovermode": "x unified" if len(group) > 1 and all(c.line for c in group) else "closest",
        },
    }


def _log_ticks(values: Sequence[float]) -> dict[str, Any]:
    ticks = sorted(set(values), reverse=True)
    # Up to 7 labels stand beside each other on a narrow page.
    step = max(1, math.ceil(len(ticks) / 7))
    chosen = ticks[::step]
    return {"type": "log", "tickmode": "array", "tickvals": chosen, "ticktext": [f"{tick:.3g}" for tick in chosen]}


def _trace(curve: Curve) -> dict[str, Any]:
    finite = [place for place, (x, y) in enumerate(curve.points) if math.isfinite(x) and math.isfinite(y)]
    points = [curve.points[place] for place in finite]
    # Beyond 40, markers on a plot of 860 pixels run into each other.
    show_markers = len(points) <= 40
    trace = {
        "type": "scatter",
        "name": _text(curve.name),
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "mode": ("lines+markers" if show_markers else "lines") if curve.line else "markers",
        "marker": {"size": 6 if curve.line else 9},
        "line": {"width": 2},
        "hovertemplate": "%{y:.5~g}<extra>%{fullData.name}</extra>"
        if curve.line
        else "%{x:.5~g}, %{y:.5~g}<extra>%{fullData.name}</extra>",
    }
    if not curve.labels:
        return trace
    names = {"text": [_text(curve.labels[place]) for place in finite], "textposition": "top center"}
    shown = {"mode": f"{trace['mode']}+text", "hovertemplate": f"%{{text}}: {trace['hovertemplate']}"}
    return {**trace, **names, **shown, "cliponaxis": False}


def _front_line(rows: Sequence[Mapping[str, Any]], columns: Columns, front: Sequence[int]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [rows[i][columns.latency] for i in front],
        "y": [rows[i][columns.accuracy] for i in front],
        "line": {"dash": "dot", "width": 1.5},
        "role": "front",
        "hoverinfo": "skip",
    }


def _markers(rows: Sequence[Mapping[str, Any]], columns: Columns, front: Sequence[int]) -> list[dict[str, Any]]:
    largest = max(
        (float(row[columns.size]) for row in rows if columns.size and _is_finite(row[columns.size])), default=0.0
    )
    sizes = [_marker_size(row, columns, largest) for row in rows]
    names = [str(row[columns.model]) for row in rows]
    points = [(float(row[columns.latency]), float(row[columns.accuracy])) for row in rows]
    positions = place_labels(points, names, sizes, log=_is_wide(rows, columns))
    return [
        {
            "type": "scatter",
            "mode": "markers+text",
            "x": [row[columns.latency]],
            "y": [row[columns.accuracy]],
            "name": _text(names[i]),
            "text": [_text(names[i]) if positions[i] else ""],
            "textposition": positions[i] or "top center",
            "cliponaxis": False,
            "marker": {"size": sizes[i], "line": {"width": 2 if i in front else 0}},
            "role": "front-marker" if i in front else "marker",
            "customdata": [[_hover(row)]],
            "hovertemplate": "%{customdata[0]}<extra></extra>",
        }
        for i, row in enumerate(rows)
    ]


def _marker_size(row: Mapping[str, Any], columns: Columns, largest: float) -> float:
    if not (columns.size and _is_finite(row[columns.size]) and largest):
        return SMALLEST
    # The root: the area is what is compared, not the diameter.
    return max(SMALLEST, LARGEST * math.sqrt(float(row[columns.size]) / largest))


def _hover(row: Mapping[str, Any]) -> str:
    lines = [
        f"{_text(k)}: {_text(f'{v:.4g}' if isinstance(v, float) else v)}" for k, v in row.items() if v not in (None, "")
    ]
    return "<br>".join([f"<b>{_text(next(iter(row.values()), ''))}</b>", *lines[1:]])


def _latency_axis(rows: Sequence[Mapping[str, Any]], columns: Columns) -> dict[str, Any]:
    return {"type": "log", "dtick": "D2", "tickformat": "~g"} if _is_wide(rows, columns) else {"rangemode": "tozero"}


def _is_wide(rows: Sequence[Mapping[str, Any]], columns: Columns) -> bool:
    values = [float(row[columns.latency]) for row in rows]
    # Beyond a factor of 8, on a straight axis the fast models would lie on top of each other.
    return min(values) > 0 and max(values) / min(values) > 8


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _text(value: object) -> str:
    """Escape text for plotly, which reads a few HTML tags in it."""
    return str(escape(str(value)))
