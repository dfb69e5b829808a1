"""Compare a bench with an earlier one: models that became slower, larger or less accurate than the limits allow.

The comparison uses ratios to the baseline of the same run instead of milliseconds, so the two runs may come from
machines of different speed. Kernels differ between kinds of CPU, so the report lists differing machine facts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effxfer.artifact import MANIFEST, Artifact
from effxfer.benchmark.protocol.latency import MIN_ROUNDS
from effxfer.benchmark.report import MACHINE
from effxfer.errors import GateError, SettingsError
from effxfer.report import Measurement, Report, Table, score_column
from effxfer.runtime.reading import read_regular

MUST_AGREE = ("threads", "batch")
# They differ from run to run on one machine.
UNCOMPARED_FACTS = ("load", "memory_gb", "os")
# 64 MB; a bench's JSON has some 10 kB.
LARGEST = 2**26
HINT = "write one with `effxfer bench ... --json > old.json`, or name the directory of `effxfer bench --out`"


@dataclass(frozen=True, kw_only=True)
class EarlierBench:
    """A saved bench: its path, settings and report."""

    source: str
    settings: Mapping[str, Any]
    report: Report


def read_earlier(path: Path) -> EarlierBench:
    """Read a file of `effxfer bench --json`, or a directory of `effxfer bench --out`.

    Raises:
        SettingsError: If it is absent or no bench.
        ModelFileError: If it is a directory that was altered.
    """
    if not path.exists() or (path.is_dir() and not (path / MANIFEST).exists()):
        raise SettingsError(f"no earlier bench {path}", HINT)
    manifest = Artifact.load(path).manifest if path.is_dir() else None
    try:
        raw = {} if manifest else json.loads(read_regular(path, LARGEST))
        settings = dict(manifest.settings if manifest else raw["settings"])
        report = manifest.report if manifest else Report.from_json(raw["report"])
        for name in model_names(report):
            # Computed to see whether it can be: a foreign JSON may hold a ratio of 0 or text.
            relative_change(report[f"ratio/{name}"], report[f"ratio/{name}"], name)
        return EarlierBench(source=str(path), settings=settings, report=report)
    except (ValueError, KeyError, TypeError, ArithmeticError, OSError, RecursionError) as error:
        raise SettingsError(f"{path} is not an earlier bench: {type(error).__name__} {error}", HINT) from None


def compare_with_earlier(
    earlier: EarlierBench, report: Report, settings: Mapping[str, Any], limit: float
) -> tuple[Report, list[str]]:
    """Compare a bench with an earlier one.

    Args:
        earlier: Result of `read_earlier`.
        report: Report of `bench_models`.
        settings: Its `threads`, `batch` and `max_drop`.
        limit: Allowed growth of a model's p50 ratio and of its file, as a share of the earlier value. Validation
            accuracy may fall by `max_drop` points.

    Returns:
        A report with a table, a row `change/NAME` per model and notes; and a sentence per regression.

    Raises:
        SettingsError: If the benches differ in settings or baseline, or have no model in common.
    """
    _check(earlier, report, settings)
    both = [name for name in model_names(report) if name in model_names(earlier.report)][1:]
    if not both:
        available = ", ".join(model_names(earlier.report)[1:]) or "none but the baseline"
        raise SettingsError(
            f"{earlier.source} and this bench have no model in common", f"models of the earlier bench: {available}"
        )
    changes = {name: relative_change(earlier.report[f"ratio/{name}"], report[f"ratio/{name}"], name) for name in both}
    table_rows = [_model_row(name, earlier.report, report, growth) for name, growth in changes.items()]
    comparison = Report(
        rows=tuple(changes.values()),
        tables=(Table(title=f"Against {earlier.source}", rows=tuple(table_rows)),),
        notes=tuple(_notes(earlier, report)),
    )
    # Both runs had noise, in whichever direction.
    floor = noise_share(earlier.report) + noise_share(report)
    slower = [
        _regression_text(name, growth, limit) for name, growth in changes.items() if is_regression(growth, limit, floor)
    ]
    wrong = slower + grown_files(earlier.report, report, both, limit)
    return comparison, wrong + score_drops(earlier.report, report, both, settings.get("max_drop", 0.0))


def grown_files(old: Report, new: Report, models: Sequence[str], limit: float) -> list[str]:
    """List the models whose files grew by more than a limit; sizes have no noise."""
    sizes = {name: (old.get(f"size/{name}"), new.get(f"size/{name}")) for name in models}
    return [
        f"{name}: the file grew from {was:.4g} to {now:.4g} MB, allowed {100 * limit:g} %"
        for name, (was, now) in sizes.items()
        if was and now and now / was - 1 > limit
    ]


def score_drops(old: Report, new: Report, models: Sequence[str], max_drop: float) -> list[str]:
    """List the models whose main metric on the validation split fell by more than `max_drop` points."""
    before, after = validation_scores(old), validation_scores(new)
    return [
        f"{name}: validation accuracy fell from {before[name]:.2f} to {after[name]:.2f} %, allowed {max_drop:g} points"
        for name in models
        if name in before and name in after and before[name] - after[name] > max_drop
    ]


def validation_scores(report: Report) -> dict[str, float]:
    """Main metric on the validation split in points, by model; empty for a bench of bare `.onnx` files."""
    rows = [row for table in report.tables for row in table.rows if "model" in row]
    values = {str(row["model"]): row[column] for row in rows if (column := score_column(row))}
    return {model: float(value) for model, value in values.items() if value is not None}


def noise_share(report: Report) -> float:
    """Return the difference that a bench measured between its baseline and itself, as a share."""
    return abs((report.get("noise") or 1.0) - 1)


def enforce_regression(regressions: list[str]) -> None:
    """Fail if there are regressions.

    Raises:
        GateError: If there are any; the error lists them all.
    """
    if regressions:
        allow = "`max_regression` for latency and size, `max_drop=POINTS` for accuracy"
        raise GateError("; ".join(regressions), f"find out why, or allow more: {allow}")


def relative_change(old: Measurement, new: Measurement, name: str) -> Measurement:
    """Return the growth of a ratio, as a share of the old one, with the widest interval that both intervals allow.

    >>> row = relative_change(Measurement(name="", value=0.5, low=0.4, high=0.5), Measurement(name="", value=0.55), "a")
    >>> [round(value, 3) for value in (row.low, row.value, row.high)]
    [0.1, 0.1, 0.375]
    """
    # The widest that both intervals allow: cautious, since a red build that is wrong is soon ignored.
    low, high = new.low / old.high - 1, new.high / old.low - 1
    return Measurement(name=f"change/{name}", value=new.value / old.value - 1, low=low, high=high, n=min(old.n, new.n))


def is_regression(growth: Measurement, limit: float, floor: float = 0.0) -> bool:
    """Whether a ratio grew by more than the limit, and by more than the noise explains.

    Args:
        growth: Result of `relative_change`; fewer than 5 rounds are never a regression.
        limit: Allowed growth.
        floor: Sum of the noise of both benches; a regression's lower end is above it.
    """
    # The value against the limit, and the interval against the noise: both must say so.
    return growth.n >= MIN_ROUNDS and growth.value > limit and growth.low > floor


def model_names(report: Report) -> list[str]:
    """Return the exported models of a bench, the baseline first: those with a ratio and a file."""
    sized = {row.name.removeprefix("size/") for row in report.rows if row.name.startswith("size/")}
    rated = [row.name.removeprefix("ratio/") for row in report.rows if row.name.startswith("ratio/")]
    if not [name for name in rated if name in sized]:
        raise KeyError("ratio/…")
    return [name for name in rated if name in sized]


def parse_share(text: str) -> float:
    """Read `5%`, `5 %` or `0.05` as a share.

    Raises:
        SettingsError: If it is neither, or not in [0, 1).

    >>> parse_share("5%"), parse_share("0.05")
    (0.05, 0.05)
    """
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise SettingsError(f"`max_regression` is a share such as 5% or 0.05, not {text!r}")
    return value


def _check(earlier: EarlierBench, report: Report, settings: Mapping[str, Any]) -> None:
    for name in MUST_AGREE:
        was, now = _run_value(name, earlier.report), _run_value(name, report)
        if was is None or now is None:
            was, now = earlier.settings.get(name), settings[name]
        if was != now:
            text = f"{earlier.source} was measured with {name} {was}, this bench with {now}"
            raise SettingsError(text, f"measure both with --{name} {was}")
    earlier_baseline, baseline = model_names(earlier.report)[0], model_names(report)[0]
    if earlier_baseline != baseline:
        text = f"ratios of {earlier.source} refer to {earlier_baseline!r}, these to {baseline!r}"
        raise SettingsError(text, "name the same model first")


def _run_value(name: str, report: Report) -> int | None:
    """The value that a bench ran with, which may differ from the setting; None in reports of earlier versions."""
    value = report.get(f"batch/{model_names(report)[0]}" if name == "batch" else name)
    return None if value is None else int(value)


def _model_row(name: str, old: Report, new: Report, growth: Measurement) -> dict[str, Any]:
    was, now = old[f"ratio/{name}"], new[f"ratio/{name}"]
    row = {
        "model": name,
        "p50 ratio then": f"{was.value:.3f} [{was.low:.3f}, {was.high:.3f}]",
        "p50 ratio now": f"{now.value:.3f} [{now.low:.3f}, {now.high:.3f}]",
        "change %": f"{100 * growth.value:+.1f} [{100 * growth.low:+.1f}, {100 * growth.high:+.1f}]",
        "size MB then": old.get(f"size/{name}"),
        "size MB now": new.get(f"size/{name}"),
    }
    before, after = validation_scores(old), validation_scores(new)
    if not before:
        return row
    column = next(filter(None, (score_column(line) for table in old.tables for line in table.rows)))
    return row | {f"{column} then": before.get(name), f"{column} now": after.get(name)}


def _notes(earlier: EarlierBench, report: Report) -> list[str]:
    ours, theirs = model_names(report), model_names(earlier.report)
    notes = [f"in one bench only, not compared: {name}" for name in sorted({*ours} ^ {*theirs})]
    rounds = min(
        row.n
        for bench in (earlier.report, report)
        for row in bench.rows
        if row.name == f"ratio/{model_names(bench)[0]}"
    )
    if rounds < MIN_ROUNDS:
        notes.append(f"{rounds} rounds are too few to detect a regression: raise `max_seconds`")
    was, now = _facts(earlier.report), _facts(report)
    differences = [
        f"{k} {was.get(k)} then, {now.get(k)} now" for k in now if k not in UNCOMPARED_FACTS and was.get(k) != now[k]
    ]
    if differences:
        notes.append("other machine: " + "; ".join(differences) + "; ratios are compared, but kernels may differ")
    return notes


def _facts(report: Report) -> dict[str, Any]:
    rows = next((table.rows for table in report.tables if table.title == MACHINE), ())
    return {str(row["fact"]): row["found"] for row in rows}


def _regression_text(name: str, growth: Measurement, limit: float) -> str:
    span = f"[{100 * growth.low:+.1f}, {100 * growth.high:+.1f}]"
    return f"{name}: p50 ratio grew by {100 * growth.value:.1f} % {span}, allowed {100 * limit:g} %"
