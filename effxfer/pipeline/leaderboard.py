"""What was tried: every model directory below some folders, the better ones first."""

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from effxfer.artifact import MANIFEST, Artifact
from effxfer.errors import ModelFileError, SettingsError
from effxfer.report import Curve, Report, Table
from effxfer.stages.settings.common import BOARD, FILES

By = Literal["accuracy", "p50", "size"]
ORDER: dict[str, tuple[str, int]] = {
    "accuracy": ("accuracy val %", -1),
    "p50": ("p50 ms", 1),
    "size": ("size MB", 1),
}  # fmt: skip
NO_NETWORK = "bench"


def leaderboard(folders: Sequence[Path], by: By = "accuracy") -> Report:
    """Put what was trained and exported side by side, a table for each task.

    Args:
        folders: Searched with all that is in them.
        by: What orders them: accuracy on the validation split, p50 of an exported file, or its size. What was not
            measured comes last.

    Raises:
        SettingsError: If there is no model directory in the folders.
        ModelFileError: If all of them are damaged.
    """
    found, notes = opened(folders)
    times = timed(found)
    tasks: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        if one.manifest.stage != NO_NETWORK and one.manifest.data:
            tasks.setdefault(task_of(one), []).extend(lines(one, times))
    tables = [Table(title=f"Leaderboard: {task}", rows=ordered(rows, by)) for task, rows in tasks.items() if rows]
    curves = tuple(curve for table in tables for curve in front_of(table))
    if times:
        notes.append("p50 is that of the last comparison of a model; `effxfer bench` times models side by side")
    return Report(tables=tuple(tables), curves=curves, notes=tuple(notes))


def opened(folders: Sequence[Path]) -> tuple[list[Artifact], list[str]]:
    """Open every model directory that is whole, and say of each other one why it is left out.

    Raises:
        SettingsError: If there is none.
        ModelFileError: If all are damaged, with the first one's reason.
    """
    found, damaged = list[Artifact](), dict[Path, ModelFileError]()
    for path in sorted({path for folder in folders for path in below(folder)}):
        try:
            found.append(Artifact.load(path))
        except ModelFileError as error:
            damaged[path] = error
    places = ", ".join(str(folder) for folder in folders)
    if damaged and not found:
        first = next(iter(damaged.values()))
        text = f"no model directory in {places} is whole: {first.problem}"
        raise ModelFileError(text, first.hint, code=first.code)
    if not found:
        raise SettingsError(f"no model directory in {places}", "give the directory of a run, such as runs/")
    return found, [f"left out: {path}: {error.problem}" for path, error in damaged.items()]


def below(folder: Path) -> Iterator[Path]:
    """Give every folder with a manifest, at any depth; no link is followed, and what cannot be read is left out."""
    left = [folder]
    while left:
        place = left.pop()
        try:
            entries = sorted(place.iterdir())
        except OSError:
            continue
        left += [one for one in entries if one.is_dir() and not one.is_symlink()]
        yield from (place for one in entries if one.name == MANIFEST)


def task_of(one: Artifact) -> str:
    """Name the task that a model was trained on last, so that other images or splits are another task."""
    last = one.manifest.data[-1]
    return f"{last['name']} ({last['digest'][:8]})"


def timed(found: Sequence[Artifact]) -> dict[tuple[str, str], dict[str, Any]]:
    """Take from comparisons what each exported file came to: by the model's key and precision."""
    named = {one.manifest.key: one.path.name.partition("-")[2] or one.path.name for one in found}
    times = {}
    for bench in (one for one in found if one.manifest.stage == NO_NETWORK and one.manifest.report.tables):
        rows = {str(row.get("model")): row for row in bench.manifest.report.tables[0].rows}
        parents = bench.manifest.parent if isinstance(bench.manifest.parent, list) else []
        for key in (key for key in parents if isinstance(key, str)):
            for precision in FILES:
                row = rows.get(f"{named.get(key)} {precision}")
                if row:
                    times[key, precision] = dict(row)
    return times


def lines(one: Artifact, times: dict[tuple[str, str], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A line for a network, or one for each file that was exported."""
    report = one.manifest.report
    told = {
        "stage": one.manifest.stage,
        "strategy": strategy_of(one),
        "backbone": Path(str(one.manifest.backbone["source"]).partition("@")[0]).name,
        "side px": one.manifest.preprocess["size"],
    }
    files = {p: one.path / f for p, f in FILES.items() if (one.path / f).is_file()}
    for precision, file in files.items():
        seen = times.get((one.manifest.key, precision), {})
        yield {
            "model": f"{one.path} {precision}",
            **told,
            "accuracy val %": report.get(f"accuracy/val/{precision}"),
            "accuracy test %": report.get(f"accuracy/test/{precision}"),
            "p50 ms": number(seen.get("p50 ms")),
            "size MB": file.stat().st_size / 1e6,
        }
    if not files and "accuracy/val" in [row.name for row in report.rows]:
        yield {
            "model": str(one.path),
            **told,
            "accuracy val %": report.get("accuracy/val"),
            "accuracy test %": report.get("accuracy/test"),
            "p50 ms": None,
            "size MB": None,
        }


def strategy_of(one: Artifact) -> str:
    """How a network was trained: where recipes competed, by which of them."""
    boards = [table.rows[0] for table in one.manifest.report.tables if table.title == BOARD and table.rows]
    return str(boards[0].get("strategy") if boards else one.manifest.settings.get("strategy") or "")


def number(value: object) -> float | None:
    """Give a cell that is a number, and None for another one."""
    return value if isinstance(value, int | float) and isfinite(value) else None


def ordered(rows: Sequence[dict[str, Any]], by: By) -> tuple[dict[str, Any], ...]:
    """Order lines, and mark those that no other beats in both accuracy and p50."""
    name, sign = ORDER[by]
    order = sorted(rows, key=lambda row: (row[name] is None, sign * (row[name] or 0.0)))
    return tuple(
        {"place": place, **row, "front": "yes" if on_front(row, rows) else ""} for place, row in enumerate(order, 1)
    )


def on_front(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> bool:
    """Whether no other model is at least as accurate and as fast, and better in one of both."""
    mine = standing(row)
    others = [standing(other) for other in rows]
    return mine is not None and not any(o and o != mine and o[0] >= mine[0] and o[1] >= mine[1] for o in others)


def standing(row: dict[str, Any]) -> tuple[float, float] | None:
    """Accuracy and speed, larger is better; None where one was not measured."""
    if row["p50 ms"] is None or row["accuracy val %"] is None:
        return None
    return row["accuracy val %"], -row["p50 ms"]


def front_of(table: Table) -> tuple[Curve, ...]:
    """Draw accuracy against p50, for what was timed."""
    seen = [row for row in table.rows if row["p50 ms"] is not None]
    front = sorted((row["p50 ms"], row["accuracy val %"]) for row in seen if row["front"])
    rest = [(row["p50 ms"], row["accuracy val %"]) for row in seen if not row["front"]]
    told = [("nothing beats these", front, True), ("others", rest, False)]
    return tuple(
        Curve(title=table.title, name=name, x="p50, ms", y="accuracy val, %", points=tuple(points), line=line)
        for name, points, line in told if points
    )  # fmt: skip
