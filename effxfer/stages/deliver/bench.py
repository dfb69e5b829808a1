"""Time exported models against each other, and say which one to ship."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from effxfer.artifact import Artifact
from effxfer.benchmark.compare import EAGER, bench_models, enforce
from effxfer.benchmark.sweep import sweep
from effxfer.benchmark.untrusted.sandbox import call_in_sandbox
from effxfer.benchmark.untrusted.vet import is_untrusted, note_unverified
from effxfer.errors import ModelFileError
from effxfer.report import Report, Table, score_column
from effxfer.runtime.threads import usable_cores
from effxfer.settings import build
from effxfer.stages.settings.common import FILES, SHIP, Bench

PLAIN = "effxfer.stages.deliver.bench:plain_measure"


def bench(exports: Mapping[str, Artifact], settings: Bench) -> Report:
    """Compare every exported file with the first one, and with the same network in eager torch.

    Args:
        exports: Results of `export`, by name; the first one's fp32 file is the baseline.
        settings: How long to measure, and what to insist on.

    Returns:
        Latency, size and memory of each model, and the table that a run ends in: the models beside the dense
        baselines, with their accuracy as measured on the exported files.

    Raises:
        GateError: If the model to ship is slower or larger than allowed.
        ModelFileError: If one of them holds no exported model.
    """
    for name, artifact in exports.items():
        if FILES["fp32"] not in artifact.manifest.files:
            raise ModelFileError(f"{artifact.path} ({name}) holds no exported model", "make one with `effxfer export`")
    files = model_files(exports)
    first = next(iter(exports.values()))
    size = first.manifest.preprocess["size"]
    nets = {f"{name} fp32": artifact.net for name, artifact in exports.items()}
    measured = measure(files, settings, torch_dense=first.net, nets=nets, size=size)
    summary = summarize(exports, measured)
    chosen = choose(summary, settings.max_drop)
    enforce(measured, [chosen], max_p50_ratio=settings.max_p50_ratio, max_mb=settings.max_mb)
    return Report(tables=(summary,), notes=(SHIP + chosen,)) + measured


def bench_files(files: Mapping[str, Path], settings: Bench) -> Report:
    """Compare ONNX files of any origin with the first one; what no result vouches for is measured in a child process.

    Args:
        files: `.onnx` files, or results of `export`, by name; the first one is the baseline.
        settings: As in `bench`.

    Raises:
        GateError: If a file is slower than allowed, or larger.
        ModelFileError: If one of them is damaged, dangerous or does not run.
    """
    given = files_of(files)
    strangers = [file for file in given.values() if is_untrusted(file)]
    measured = _measure_in_sandbox(given, strangers, settings) if strangers else measure(given, settings)
    # A single file is its own baseline, and is held to the limits itself.
    names = [name for name in given if name != next(iter(given))] or list(given)
    enforce(measured, names, max_p50_ratio=settings.max_p50_ratio, max_mb=settings.max_mb)
    return measured + Report(notes=note_unverified(given.values()))


def _measure_in_sandbox(files: Mapping[str, Path], strangers: Sequence[Path], settings: Bench) -> Report:
    """Measure where some files come from nobody knows: all in one child process, in turns."""
    sweeps = len(settings.sweep_threads or (1,)) * len(settings.sweep_batches or (1,))
    asked = {"files": {name: str(file) for name, file in files.items()}, "settings": settings.plain()}
    # 4 times: cold starts, memory and conversions are not in `max_seconds`. A hung file only has to end some time.
    return Report.from_json(call_in_sandbox(PLAIN, strangers, asked, seconds=4 * settings.max_seconds * (1 + sweeps)))


def plain_measure(files: Mapping[str, str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Measure in this process, from and into plain values."""
    return measure({name: Path(file) for name, file in files.items()}, build(Bench, settings, "bench")).to_json()


def files_of(named: Mapping[str, Path]) -> dict[str, Path]:
    """Give the ONNX files of what is to be compared: files, or results of `export`, by name.

    Raises:
        ModelFileError: If one of them is absent, or a directory holds no export.
    """
    found = dict[str, Path]()
    for name, path in named.items():
        found |= model_files({name: Artifact.load(path)}) if path.is_dir() else {name: path}
    absent = [file for file in found.values() if not file.exists()]
    if absent:
        raise ModelFileError(f"no model file {absent[0]}", "write one with `effxfer export`", code="E424")
    return found


def measure(files: Mapping[str, Path], settings: Bench, **more: Any) -> Report:
    """Time files in turns as the settings say, and sweep over threads and batches where they ask for it.

    Args:
        files: By name; the first one is the baseline.
        settings: How.
        more: Arguments of `bench_models`.
    """
    threads, baseline = settings.threads or usable_cores(), next(iter(files))
    measured = bench_models(
        files, baseline=baseline, runtimes=settings.runtimes, threads=threads, batch=settings.batch,
        precision=settings.precision, max_seconds=settings.max_seconds, cold=settings.cold, seed=settings.seed, **more,
    )  # fmt: skip
    if settings.sweep_threads or settings.sweep_batches:
        measured += sweep(
            files, baseline=baseline, threads=settings.sweep_threads or (threads,),
            batches=settings.sweep_batches or (settings.batch,), size=more.get("size"),
            precision=settings.precision, max_seconds=settings.max_seconds, seed=settings.seed,
        )  # fmt: skip
    return measured


def model_files(exports: Mapping[str, Artifact]) -> dict[str, Path]:
    """Name every exported file: `<stage> fp32`, `<stage> int8`."""
    return {
        f"{name} {precision}": artifact.path / file
        for name, artifact in exports.items()
        for precision, file in FILES.items()
        if file in artifact.manifest.files
    }


def summarize(exports: Mapping[str, Artifact], measured: Report) -> Table:
    """One row per model, the baseline first: accuracy, latency, size, each against the baseline."""
    names = [row.name.removeprefix("p50/") for row in measured.rows if row.name.startswith("p50/")]
    eager = [name for name in names if name not in model_files(exports)]
    ordered = [n for n in names if n not in eager]
    rows = [_row(name, exports, measured) for name in [*ordered[:1], *eager, *ordered[1:]]]
    return Table(title="Models, measured on the exported files", rows=tuple(rows))


def choose(summary: Table, max_drop: float) -> str:
    """Name the fastest model whose main metric on the validation split is at most `max_drop` points below the first's.

    One without a ratio, because its file takes other images per call than the baseline's, cannot be chosen.
    """
    base = summary.rows[0]
    score = score_column(base)
    files = [row for row in summary.rows if str(row["model"]).rpartition(" ")[2] in FILES]
    fit = [row for row in files if row[score] >= base[score] - max_drop and row["p50 ratio"]]
    # The ratio and not the p50: it is paired, so that drift of the machine cancels. The baseline itself always fits.
    return str(min(fit, key=lambda row: float(row["p50 ratio"]))["model"])


def _row(name: str, exports: Mapping[str, Artifact], measured: Report) -> dict[str, Any]:
    stage, _, precision = name.rpartition(" ")
    owner = exports.get(stage)
    report, suffix = owner.manifest.report if owner else Report(), precision
    if name == EAGER:
        report, suffix = next(iter(exports.values())).manifest.report, "torch"
    metric = next(iter(exports.values())).manifest.report.metric
    interval = next((row for row in measured.rows if row.name == f"ratio/{name}"), None)
    return {
        "model": name,
        f"{metric} val %": report.get(f"{metric}/val/{suffix}"),
        f"{metric} test %": report.get(f"{metric}/test/{suffix}"),
        "p50 ms": measured.get(f"p50/{name}") if interval else None,
        "p95 ms": measured.get(f"p95/{name}") if interval else None,
        "p50 ratio": interval.value if interval else None,
        "ratio 95 %": f"{interval.low:.3f} to {interval.high:.3f}" if interval else None,
        "size MB": measured.get(f"size/{name}"),
        "compressed MB": measured.get(f"compressed/{name}"),
        "zeros %": report.get(f"zeros/{suffix}" if owner else "zeros"),
    }
