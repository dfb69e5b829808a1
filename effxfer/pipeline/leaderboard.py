"""Leaderboard: every model directory below some folders, the better ones first."""

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from effxfer.artifact import MANIFEST, Artifact
from effxfer.data.listing import first_names
from effxfer.errors import ModelFileError, SettingsError
from effxfer.files import digest
from effxfer.pareto import pareto_front
from effxfer.report import Curve, Report, Table, score_column
from effxfer.stages.settings.common import BOARD, FILES

By = Literal["accuracy", "p50", "size"]
MEASURED = {"p50": "p50 ms", "size": "size MB"}
NO_NETWORK = "bench"


def leaderboard(folders: Sequence[Path], by: By = "accuracy") -> Report:
    """Compare trained and exported models side by side, a table for each task.

    Args:
        folders: Searched at any depth.
        by: The sort key: accuracy on the validation split, p50 of an exported file, or its size. Models without it
            come last.

    Raises:
        SettingsError: If there is no model directory in the folders.
        ModelFileError: If all of them are damaged.
    """
    artifacts, notes = load_artifacts(folders)
    times = bench_rows(artifacts)
    tasks: dict[str, list[dict[str, Any]]] = {}
    for artifact in artifacts:
        if artifact.manifest.stage != NO_NETWORK and artifact.manifest.data:
            tasks.setdefault(task_of(artifact), []).extend(artifact_rows(artifact, times))
    tables = [Table(title=f"Leaderboard: {task}", rows=rank_rows(rows, by)) for task, rows in tasks.items() if rows]
    curves = tuple(curve for table in tables for curve in front_curves(table))
    if times:
        notes.append("p50 is that of the last comparison of a model; `effxfer bench` times models side by side")
    return Report(tables=tuple(tables), curves=curves, notes=tuple(notes))


def load_artifacts(folders: Sequence[Path]) -> tuple[list[Artifact], list[str]]:
    """Load every intact model directory, and note why each other one is left out.

    Raises:
        SettingsError: If there is none.
        ModelFileError: If all are damaged, with the first one's reason.
    """
    artifacts, damaged = list[Artifact](), dict[Path, ModelFileError]()
    for path in sorted({path for folder in folders for path in model_folders(folder)}):
        try:
            artifacts.append(Artifact.load(path))
        except ModelFileError as error:
            damaged[path] = error
    places = ", ".join(str(folder) for folder in folders)
    if damaged and not artifacts:
        first = next(iter(damaged.values()))
        text = f"no model directory in {places} is whole: {first.problem}"
        raise ModelFileError(text, first.hint, code=first.code)
    if not artifacts:
        raise SettingsError(f"no model directory in {places}", "give the directory of a run, such as runs/")
    return artifacts, [f"left out: {path}: {error.problem}" for path, error in damaged.items()]


def model_folders(folder: Path) -> Iterator[Path]:
    """Yield every folder with a manifest, at any depth; links are not followed, unreadable folders are skipped."""
    pending = [folder]
    while pending:
        path = pending.pop()
        try:
            entries = sorted(path.iterdir())
        except OSError:
            continue
        pending += [entry for entry in entries if entry.is_dir() and not entry.is_symlink()]
        yield from (path for entry in entries if entry.name == MANIFEST)


def task_of(artifact: Artifact) -> str:
    """Name the data that a model was trained on last, all tables of it: other examples or splits are another task."""
    tables = artifact.manifest.data
    digests = [str(table["digest"]) for table in tables]
    code = digests[0] if len(tables) == 1 else digest(digests)
    return f"{first_names([str(table['name']) for table in tables])} ({code[:8]})"


def bench_rows(artifacts: Sequence[Artifact]) -> dict[tuple[str, str], dict[str, Any]]:
    """The row of each exported file in the last comparison, by the model's key and precision."""
    names = {a.manifest.key: a.path.name.partition("-")[2] or a.path.name for a in artifacts}
    times = {}
    for bench in (a for a in artifacts if a.manifest.stage == NO_NETWORK and a.manifest.report.tables):
        rows = {str(row.get("model")): row for row in bench.manifest.report.tables[0].rows}
        parents = bench.manifest.parent if isinstance(bench.manifest.parent, list) else []
        for key in (key for key in parents if isinstance(key, str)):
            for precision in FILES:
                row = rows.get(f"{names.get(key)} {precision}")
                if row:
                    times[key, precision] = dict(row)
    return times


def artifact_rows(artifact: Artifact, times: dict[tuple[str, str], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row for a network, or one for each exported file."""
    report = artifact.manifest.report
    columns = {
        "stage": artifact.manifest.stage,
        "strategy": strategy_of(artifact),
        "backbone": Path(str(artifact.manifest.backbone["source"]).partition("@")[0]).name,
        "side px": artifact.manifest.preprocess["size"],
    }
    files = {p: artifact.path / f for p, f in FILES.items() if (artifact.path / f).is_file()}
    for precision, file in files.items():
        timing = times.get((artifact.manifest.key, precision), {})
        yield {
            "model": f"{artifact.path} {precision}",
            **columns,
            f"{report.metric} val %": report.score(f"val/{precision}"),
            f"{report.metric} test %": report.score(f"test/{precision}"),
            "p50 ms": number(timing.get("p50 ms")),
            "size MB": file.stat().st_size / 1e6,
        }
    if not files and report.score("val") is not None:
        yield {
            "model": str(artifact.path),
            **columns,
            f"{report.metric} val %": report.score("val"),
            f"{report.metric} test %": report.score("test"),
            "p50 ms": None,
            "size MB": None,
        }


def strategy_of(artifact: Artifact) -> str:
    """The strategy that trained a network; of a competition, the winning one."""
    boards = [table.rows[0] for table in artifact.manifest.report.tables if table.title == BOARD and table.rows]
    return str(boards[0].get("strategy") if boards else artifact.manifest.settings.get("strategy") or "")


def number(value: object) -> float | None:
    """Return a finite number as it is, and None for any other cell."""
    return value if isinstance(value, int | float) and isfinite(value) else None


def rank_rows(rows: Sequence[dict[str, Any]], by: By) -> tuple[dict[str, Any], ...]:
    """Sort rows, and mark the Pareto front of accuracy and p50."""
    name = MEASURED.get(by) or score_column(rows[0])
    sign = 1 if by in MEASURED else -1
    order = sorted(rows, key=lambda row: (row[name] is None, sign * (row[name] or 0.0)))
    return tuple(
        {"place": place, **row, "front": "yes" if best else ""}
        for place, (row, best) in enumerate(zip(order, front_flags(order), strict=True), 1)
    )


def front_flags(rows: Sequence[dict[str, Any]]) -> list[bool]:
    """Whether no other model beats a row in accuracy and p50; false where one of the two was not measured."""
    score = score_column(rows[0])
    timed = [i for i, row in enumerate(rows) if row["p50 ms"] is not None and row[score] is not None]
    front = pareto_front([(rows[i]["p50 ms"], rows[i][score]) for i in timed])
    best = {timed[i] for i in front}
    return [i in best for i in range(len(rows))]


def front_curves(table: Table) -> tuple[Curve, ...]:
    """Plot accuracy against p50 for the models that were timed."""
    timed_rows = [row for row in table.rows if row["p50 ms"] is not None]
    score = score_column(table.rows[0])
    front = sorted((row["p50 ms"], row[score]) for row in timed_rows if row["front"])
    dominated = [(row["p50 ms"], row[score]) for row in timed_rows if not row["front"]]
    groups = [("nothing beats these", front, True), ("others", dominated, False)]
    return tuple(
        Curve(title=table.title, name=name, x="p50, ms", y=score.replace(" %", ", %"), points=tuple(points), line=line)
        for name, points, line in groups if points
    )  # fmt: skip
