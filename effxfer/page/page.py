"""Write the report page: Jinja2 with autoescape, plotly.js inlined, no request to anywhere."""

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from effxfer import __version__
from effxfer.files import write_atomic
from effxfer.page.columns import MAIN_METRICS, NOTHING, Columns, column_texts, is_number
from effxfer.page.figures import Figure, curve_figures, pareto
from effxfer.pareto import pareto_front
from effxfer.report import Report, Table

SEAL = b"<!-- sha256 %s -->\n"
FOLDER = Path(__file__).parent
LONG = 40  # letters; longer cells would become columns of single words beside many numbers
LABELS = {
    "cores": "physical cores",
    "threads": "logical cores",
    "usable": "usable to this process",
    "quota": "container limit, cores",
    "used": "threads by default",
    "flags": "instruction sets",
    "memory_gb": "memory, GB",
    "load": "load per core",
}


@dataclass(frozen=True, kw_only=True)
class Section:
    """One stage on the page.

    Attributes:
        title: Its heading.
        report: Its measurements.
        command: The command that reproduces it; empty if there is none.
        picture: JPEG file to show below the tables; empty if there is none.
    """

    title: str
    report: Report
    command: str = ""
    picture: bytes = b""


def write_page(
    file: Path,
    *,
    title: str,
    sections: Sequence[Section],
    summary: Table,
    facts: Mapping[str, Any],
    chosen: str = "",
    command: str = "",
) -> Path:
    """Write a page that needs nothing but a browser: about 5 MB, most of it plotly.js.

    Args:
        file: Where; an older page is replaced.
        title: Heading of the page.
        sections: The stages, in their order.
        summary: One row per model, the baseline first. The columns `model`, `accuracy …`, `p50 … ms`, `… ratio …`
            and `size …` (see `Columns`) feed the plot and the headline; all columns are shown.
        facts: What the figures depend on, e.g. `benchmark.machine.facts.facts()`; values are plain, or lists or tables
            of plain ones.
        chosen: The model of `summary` that the run recommends; its figures against the baseline head the page.
        command: The command that reproduces the run.

    Returns:
        `file`.

    Raises:
        ResourceError: If the file cannot be written.
    """
    figures: list[Figure] = []
    context = {
        "title": title,
        "version": __version__,
        "headline": headline(summary, chosen),
        "summary": _grid(summary, chosen),
        "pareto": _place(figures, pareto(summary)),
        "sections": [_section(i, section, figures) for i, section in enumerate(sections, 1)],
        "facts": {name: _fact(value) for name, value in facts.items()},
        "labels": LABELS,
        "command": command,
        "figures": _no_nan(figures),
    }
    page = render(context).encode()
    return write_atomic(file, page + SEAL % sha256(page).hexdigest().encode())


def is_intact(file: Path) -> bool:
    """Whether a page exists as it was written: it ends with the digest of its content."""
    if not file.is_file():
        return False
    content = file.read_bytes()
    # 64 letters: a SHA-256 in hexadecimal.
    page = content[: -len(SEAL % bytes(64))]
    return content == page + SEAL % sha256(page).hexdigest().encode()


def render(context: Mapping[str, Any]) -> str:
    """Fill the template; every value is escaped except the project's own style, script and plotly.js."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    assets = {name: Markup((FOLDER / name).read_text()) for name in ("page.css", "page.js")}
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # 4.8 MB: left out where there is nothing to plot.
    plotly = Markup(get_plotlyjs()) if context["figures"] else ""
    return environment.get_template("page.html").render(
        **context, style=assets["page.css"], script=assets["page.js"], plotly=plotly
    )


def headline(summary: Table, chosen: str) -> list[dict[str, Any]]:
    """The figures at the head of the page: those of the chosen model, each against the first row's.

    Args:
        summary: As for `write_page`.
        chosen: A value of its model column; without one there is no headline.
    """
    columns = Columns.of(summary)
    chosen_row = next((row for row in summary.rows if chosen and str(row[columns.model]) == chosen), None)
    if chosen_row is None:
        return []
    base = summary.rows[0]
    metric = columns.accuracy.partition(" ")[0]
    kinds = ((metric, columns.accuracy), ("p50 latency", columns.latency), ("size", columns.size))
    return [_card(label, name, chosen_row, base) for label, name in kinds if name and _is_number(chosen_row[name])]


def _card(label: str, column: str, row: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    value, reference = float(row[column]), base[column]
    against, good = "", False
    if _is_number(reference) and row is not base:
        against, good = _compare_with_reference(label, value, float(reference), _name(base))
    unit = column.replace("(", " ").replace(")", " ").split()[-1] if " " in column else ""
    shown = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return {"label": label, "value": shown, "unit": unit, "against": against, "good": good}


def _compare_with_reference(label: str, value: float, reference: float, name: str) -> tuple[str, bool]:
    """Compare a value with the reference's in words, and whether it is no worse."""
    if label.lower() in MAIN_METRICS:
        points = f"{value - reference:+.1f}".replace("-", "\u2212")
        return f"{points} points against {name}", value >= reference
    if min(value, reference) <= 0:
        return "", False
    better, worse = ("faster", "slower") if "latency" in label else ("smaller", "larger")
    factor = max(value, reference) / min(value, reference)
    return f"{factor:.1f}\u00d7 {better if value <= reference else worse} than {name}", value <= reference


def _name(row: Mapping[str, Any]) -> str:
    return str(next(iter(row.values())))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _section(number: int, section: Section, figures: list[Figure]) -> dict[str, Any]:
    report = section.report
    plots = [{"title": title, "figure": _place(figures, figure)} for title, figure in curve_figures(report.curves)]
    rows = [
        {
            "name": row.name,
            "value": f"{row.value:.4g} {row.unit}".rstrip() if _is_number(row.value) else NOTHING,
            "range": f"{row.low:.4g} to {row.high:.4g}" if row.low != row.high else "",
            "n": row.n,
            "of": row.of,
        }
        for row in report.rows
    ]
    return {
        "id": f"stage-{number}",
        "number": number,
        "title": section.title,
        "command": section.command,
        "rows": rows,
        "notes": report.notes,
        "tables": [_grid(table) for table in report.tables],
        "plots": plots,
        "picture": f"data:image/jpeg;base64,{b64encode(section.picture).decode()}" if section.picture else "",
    }


def _grid(table: Table, chosen: str = "") -> dict[str, Any]:
    """Lay a table out: texts by column, which columns are numbers, which rows nothing beats."""
    names = list(table.rows[0]) if table.rows else []
    texts = [column_texts([row.get(name) for row in table.rows]) for name in names]
    columns = Columns.of(table)
    return {
        "title": table.title,
        "columns": names,
        "kinds": [_kind(column) for column in texts],
        "rows": [list(cells) for cells in zip(*texts, strict=True)],
        "front": _front_rows(table, columns),
        "chosen": [bool(chosen) and str(row[columns.model]) == chosen for row in table.rows],
    }


def _kind(column: Sequence[str]) -> str:
    """The style of a column: numbers, sentences that need width, or words."""
    if all(map(is_number, column)):
        return "num"
    return "long" if max(map(len, column)) > LONG else ""


def _front_rows(table: Table, columns: Columns) -> list[bool]:
    if not (columns.accuracy and columns.latency):
        return [False] * len(table.rows)
    both = (columns.latency, columns.accuracy)
    timed = [i for i, row in enumerate(table.rows) if all(_is_number(row[name]) for name in both)]
    best = {timed[i] for i in pareto_front([(table.rows[i][both[0]], table.rows[i][both[1]]) for i in timed])}
    return [i in best for i in range(len(table.rows))]


def _place(figures: list[Figure], figure: Figure | None) -> int | None:
    if figure is None:
        return None
    figures.append(figure)
    return len(figures) - 1


def _fact(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {"kind": "table", "value": {str(k): str(v) for k, v in value.items()}}
    if isinstance(value, list | tuple | set):
        return {"kind": "list", "value": [str(v) for v in value]}
    return {"kind": "text", "value": NOTHING if value in (None, "") else str(value)}


def _no_nan(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by None."""
    if isinstance(value, Mapping):
        return {k: _no_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_no_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
