"""A bench against an earlier one: which models became slower, larger or less accurate than the limits allow.

Ratios to the baseline of the same run are compared, not milliseconds, so that both runs may come from machines of
different speed; kernels differ between kinds of CPU, so other machine facts are told.
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
from effxfer.report import Measurement, Report, Table
from effxfer.runtime.reading import read_regular

MUST_AGREE = ("threads", "batch")
PASSING = ("load", "memory_gb", "os")
LARGEST = 2**26
ACCURACY = "accuracy val %"
HINT = "keep one with `effxfer bench ... --json > old.json`, or name the directory of `effxfer bench --out`"


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A bench that was kept: its settings and its report."""

    where: str
    settings: Mapping[str, Any]
    report: Report


def read_earlier(path: Path) -> Earlier:
    """Read a file of `effxfer bench --json`, or a directory of `effxfer bench --out`.

    Raises:
        SettingsError: If it is absent or something else.
        ModelFileError: If it is a directory that was altered.
    """
    if not path.exists() or (path.is_dir() and not (path / MANIFEST).exists()):
        raise SettingsError(f"no earlier bench {path}", HINT)
    kept = Artifact.load(path).manifest if path.is_dir() else None
    try:
        raw = {} if kept else json.loads(read_regular(path, LARGEST))
        settings = dict(kept.settings if kept else raw["settings"])
        report = kept.report if kept else Report.from_json(raw["report"])
        for name in names(report):
            change(report[f"ratio/{name}"], report[f"ratio/{name}"], name)
        return Earlier(where=str(path), settings=settings, report=report)
    except (ValueError, KeyError, TypeError, ArithmeticError, OSError, RecursionError) as error:
        raise SettingsError(f"{path} is not an earlier bench: {type(error).__name__} {error}", HINT) from None


def against(earlier: Earlier, report: Report, settings: Mapping[str, Any], limit: float) -> tuple[Report, list[str]]:
    """Compare a bench with an earlier one.

    Args:
        earlier: From `read_earlier`.
        report: Of `bench_models`.
        settings: `threads`, `batch` and `max_drop` of it.
        limit: Allowed growth of a model's p50 ratio and of its file, as a share of the earlier one. Validation accuracy
            may fall by `max_drop` points.

    Returns:
        A table, a row `change/NAME` per model and notes; and what regressed, a sentence each, empty if nothing did.

    Raises:
        SettingsError: If the two have other settings or baselines, or no model in common.
    """
    _check(earlier, report, settings)
    both = [name for name in names(report) if name in names(earlier.report)][1:]
    if not both:
        there = ", ".join(names(earlier.report)[1:]) or "none but the baseline"
        raise SettingsError(f"{earlier.where} and this bench have no model in common", f"it has: {there}")
    changes = {name: change(earlier.report[f"ratio/{name}"], report[f"ratio/{name}"], name) for name in both}
    lines = [_line(name, earlier.report, report, one) for name, one in changes.items()]
    found = Report(
        rows=tuple(changes.values()),
        tables=(Table(title=f"Against {earlier.where}", rows=tuple(lines)),),
        notes=tuple(_notes(earlier, report)),
    )
    floor = noise(earlier.report) + noise(report)
    slower = [_sentence(name, one, limit) for name, one in changes.items() if regressed(one, limit, floor)]
    wrong = slower + larger(earlier.report, report, both, limit)
    return found, wrong + less_accurate(earlier.report, report, both, settings.get("max_drop", 0.0))


def larger(old: Report, new: Report, models: Sequence[str], limit: float) -> list[str]:
    """Report the models whose files grew by more than a limit: a size has no noise."""
    sizes = {name: (old.get(f"size/{name}"), new.get(f"size/{name}")) for name in models}
    return [
        f"{name}: the file grew from {was:.4g} to {now:.4g} MB, allowed {100 * limit:g} %"
        for name, (was, now) in sizes.items()
        if was and now and now / was - 1 > limit
    ]


def less_accurate(old: Report, new: Report, models: Sequence[str], max_drop: float) -> list[str]:
    """Report the models whose validation accuracy fell by more than `max_drop` points, where both benches know it."""
    then, now = accuracies(old), accuracies(new)
    return [
        f"{name}: validation accuracy fell from {then[name]:.2f} to {now[name]:.2f} %, allowed {max_drop:g} points"
        for name in models
        if name in then and name in now and then[name] - now[name] > max_drop
    ]


def accuracies(report: Report) -> dict[str, float]:
    """Validation accuracy in % by model; empty for a bench of bare `.onnx` files."""
    rows = [row for table in report.tables for row in table.rows if row.keys() >= {"model", ACCURACY}]
    return {str(row["model"]): float(row[ACCURACY]) for row in rows if row[ACCURACY] is not None}


def noise(report: Report) -> float:
    """Give the false difference that a bench saw between its baseline and itself, as a share."""
    return abs((report.get("noise") or 1.0) - 1)


def enforce_regression(regressions: list[str]) -> None:
    """Fail if anything regressed.

    Raises:
        GateError: With everything that did.
    """
    if regressions:
        allow = "`max_regression` for latency and size, `max_drop=POINTS` for accuracy"
        raise GateError("; ".join(regressions), f"find out why, or allow more: {allow}")


def change(old: Measurement, new: Measurement, name: str) -> Measurement:
    """Give the growth of a ratio, as a share of the old one, with the widest interval that both intervals allow.

    >>> row = change(Measurement(name="", value=0.5, low=0.4, high=0.5), Measurement(name="", value=0.55), "a")
    >>> [round(value, 3) for value in (row.low, row.value, row.high)]
    [0.1, 0.1, 0.375]
    """
    low, high = new.low / old.high - 1, new.high / old.low - 1
    return Measurement(name=f"change/{name}", value=new.value / old.value - 1, low=low, high=high, n=min(old.n, new.n))


def regressed(one: Measurement, limit: float, floor: float = 0.0) -> bool:
    """Whether a model grew by more than the limit, and by more than chance explains.

    Args:
        one: From `change`; of fewer than 5 rounds nothing is known.
        limit: Allowed growth.
        floor: The false differences that both benches saw, added up; the lower end of the growth is above it.
    """
    return one.n >= MIN_ROUNDS and one.value > limit and one.low > floor


def names(report: Report) -> list[str]:
    """Name the exported models of a bench, the baseline first: those with a ratio and a file of their own."""
    sized = {row.name.removeprefix("size/") for row in report.rows if row.name.startswith("size/")}
    found = [row.name.removeprefix("ratio/") for row in report.rows if row.name.startswith("ratio/")]
    if not [name for name in found if name in sized]:
        raise KeyError("ratio/…")
    return [name for name in found if name in sized]


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


def _check(earlier: Earlier, report: Report, settings: Mapping[str, Any]) -> None:
    for name in MUST_AGREE:
        was, now = _ran(name, earlier.report), _ran(name, report)
        if was is None or now is None:
            was, now = earlier.settings.get(name), settings[name]
        if was != now:
            text = f"{earlier.where} was measured with {name} {was}, this bench with {now}"
            raise SettingsError(text, f"measure both with --{name} {was}")
    first, ours = names(earlier.report)[0], names(report)[0]
    if first != ours:
        text = f"ratios of {earlier.where} refer to {first!r}, these to {ours!r}"
        raise SettingsError(text, "name the same model first")


def _ran(name: str, report: Report) -> int | None:
    """What a bench ran with, which may differ from what it was asked for; None in those of earlier versions."""
    value = report.get(f"batch/{names(report)[0]}" if name == "batch" else name)
    return None if value is None else int(value)


def _line(name: str, old: Report, new: Report, one: Measurement) -> dict[str, Any]:
    was, now = old[f"ratio/{name}"], new[f"ratio/{name}"]
    line = {
        "model": name,
        "p50 ratio then": f"{was.value:.3f} [{was.low:.3f}, {was.high:.3f}]",
        "p50 ratio now": f"{now.value:.3f} [{now.low:.3f}, {now.high:.3f}]",
        "change %": f"{100 * one.value:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]",
        "size MB then": old.get(f"size/{name}"),
        "size MB now": new.get(f"size/{name}"),
    }
    then, today = accuracies(old), accuracies(new)
    return line | ({f"{ACCURACY} then": then.get(name), f"{ACCURACY} now": today.get(name)} if then else {})


def _notes(earlier: Earlier, report: Report) -> list[str]:
    ours, theirs = names(report), names(earlier.report)
    notes = [f"in one bench only, not compared: {name}" for name in sorted({*ours} ^ {*theirs})]
    rounds = min(row.n for one in (earlier.report, report) for row in one.rows if row.name == f"ratio/{names(one)[0]}")
    if rounds < MIN_ROUNDS:
        notes.append(f"{rounds} rounds are too few to find a regression: give more --max-seconds")
    was, now = _facts(earlier.report), _facts(report)
    other = [f"{k} {was.get(k)} then, {now.get(k)} now" for k in now if k not in PASSING and was.get(k) != now[k]]
    if other:
        notes.append("other machine: " + "; ".join(other) + "; ratios are compared, but kernels may differ")
    return notes


def _facts(report: Report) -> dict[str, Any]:
    rows = next((table.rows for table in report.tables if table.title == MACHINE), ())
    return {str(row["fact"]): row["found"] for row in rows}


def _sentence(name: str, one: Measurement, limit: float) -> str:
    span = f"[{100 * one.low:+.1f}, {100 * one.high:+.1f}]"
    return f"{name}: p50 ratio grew by {100 * one.value:.1f} % {span}, allowed {100 * limit:g} %"
