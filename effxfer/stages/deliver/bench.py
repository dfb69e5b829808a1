"""Time exported models against each other, and choose the one to ship."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from effxfer.artifact import Artifact
from effxfer.benchmark.compare import EAGER, bench_models, enforce
from effxfer.benchmark.runtimes.registry import NO_RUNTIMES
from effxfer.benchmark.sweep import sweep
from effxfer.benchmark.text_lengths import time_long_texts
from effxfer.benchmark.untrusted.sandbox import call_in_sandbox
from effxfer.benchmark.untrusted.vet import is_untrusted, note_unverified
from effxfer.errors import ModelFileError
from effxfer.pareto import AS_FAST
from effxfer.report import Report, Table, score_column
from effxfer.runtime.session import ONNXRUNTIME
from effxfer.runtime.threads import usable_cores
from effxfer.settings import build
from effxfer.stages.deliver.decisions import class_counts
from effxfer.stages.settings.base import require_runtime
from effxfer.stages.settings.common import FILES, SHIP, Bench

CLASS_DROP = "largest class drop, points"
PLAIN = "effxfer.stages.deliver.bench:plain_measure"


def bench(exports: Mapping[str, Artifact], settings: Bench) -> Report:
    """Compare every exported file with the first one, and with the same networks in eager torch.

    Args:
        exports: Results of `export`, by name; the fp32 file of the first one is the baseline.
        settings: Length of the measurement, and limits of the model to ship.

    Returns:
        Latency, size and memory of each model, and a summary table with the accuracy of the exported files.

    Raises:
        GateError: If the model to ship is slower or larger than allowed.
        ModelFileError: If a directory contains no exported model.
    """
    for name, artifact in exports.items():
        if FILES["fp32"] not in artifact.manifest.files:
            raise ModelFileError(f"{artifact.path} ({name}) holds no exported model", "make one with `effxfer export`")
    files = model_files(exports)
    first = next(iter(exports.values()))
    # The side of images; a file of texts says by itself how long they are.
    size = first.manifest.preprocess["size"] if first.manifest.preprocess.get("kind", "image") == "image" else None
    nets = {f"{name} fp32": artifact.net for name, artifact in exports.items()}
    exported_for = own_runtimes(exports)
    measured = measure(files, settings, exported_for, torch_dense=first.net, nets=nets, size=size)
    summary = summarize(exports, measured)
    chosen = choose(summary, settings.max_drop, settings.max_class_drop)
    enforce(measured, [chosen], max_p50_ratio=settings.max_p50_ratio, max_mb=settings.max_mb)
    return Report(tables=(summary,), notes=(SHIP + chosen,)) + measured


def bench_files(files: Mapping[str, Path], settings: Bench) -> Report:
    """Compare ONNX files of any origin with the first one; files without a manifest are measured in a sandbox.

    Args:
        files: `.onnx` files, or directories of `export`, by name; the first one is the baseline.
        settings: Length of the measurement, and limits of all files but the baseline.

    Raises:
        GateError: If a file is slower or larger than allowed.
        ModelFileError: If a file is damaged or unsafe, or does not run.
    """
    onnx_files = files_of(files)
    untrusted = [file for file in onnx_files.values() if is_untrusted(file)]
    exported_for = own_runtimes({name: Artifact.load(path) for name, path in files.items() if path.is_dir()})
    if untrusted:
        measured = _measure_in_sandbox(onnx_files, untrusted, settings, exported_for)
    else:
        measured = measure(onnx_files, settings, exported_for)
    # A single file is its own baseline, and is held to the limits itself.
    names = [name for name in onnx_files if name != next(iter(onnx_files))] or list(onnx_files)
    enforce(measured, names, max_p50_ratio=settings.max_p50_ratio, max_mb=settings.max_mb)
    return measured + Report(notes=note_unverified(onnx_files.values()))


def _measure_in_sandbox(
    files: Mapping[str, Path], untrusted: Sequence[Path], settings: Bench, exported_for: Mapping[str, str]
) -> Report:
    """Measure all files in one sandboxed process, in turns, because some of them are of unknown origin."""
    sweeps = len(settings.sweep_threads or (1,)) * len(settings.sweep_batches or (1,))
    plain_files = {name: str(file) for name, file in files.items()}
    job = {"files": plain_files, "settings": settings.plain(), "exported_for": exported_for}
    # 4 times: cold starts, memory and conversions are not in `max_seconds`. A hung file only has to end some time.
    return Report.from_json(call_in_sandbox(PLAIN, untrusted, job, seconds=4 * settings.max_seconds * (1 + sweeps)))


def plain_measure(
    files: Mapping[str, str], settings: Mapping[str, Any], exported_for: Mapping[str, str]
) -> dict[str, Any]:
    """Measure in this process; arguments and result are plain values."""
    paths = {name: Path(file) for name, file in files.items()}
    return measure(paths, build(Bench, settings, "bench"), exported_for).to_json()


def own_runtimes(exports: Mapping[str, Artifact]) -> dict[str, str]:
    """Return the runtime that each file was exported for, by the file's name.

    Raises:
        ResourceError: If it is not installed.
    """
    runtimes = {name: artifact.manifest.settings.get("runtime", ONNXRUNTIME) for name, artifact in exports.items()}
    for runtime in runtimes.values():
        require_runtime(runtime)
    return {file: runtimes[file.rpartition(" ")[0]] for file in model_files(exports)}


def files_of(named: Mapping[str, Path]) -> dict[str, Path]:
    """Return the ONNX files of `.onnx` paths and directories of `export`, by name.

    Raises:
        ModelFileError: If a file is absent, or a directory is no model directory.
    """
    files = dict[str, Path]()
    for name, path in named.items():
        files |= model_files({name: Artifact.load(path)}) if path.is_dir() else {name: path}
    absent = [file for file in files.values() if not file.exists()]
    if absent:
        raise ModelFileError(f"no model file {absent[0]}", "write one with `effxfer export`", code="E424")
    return files


def measure(
    files: Mapping[str, Path], settings: Bench, exported_for: Mapping[str, str] = NO_RUNTIMES, **arguments: Any
) -> Report:
    """Time files in turns, and sweep over threads and batch sizes if the settings name several.

    Args:
        files: ONNX files by name; the first one is the baseline.
        settings: Settings of the measurement.
        exported_for: What files were exported for, see `bench_models`.
        arguments: Additional arguments of `bench_models`.
    """
    threads, baseline = settings.threads or usable_cores(), next(iter(files))
    measured = bench_models(
        files, baseline=baseline, runtimes=settings.runtimes, threads=threads, batch=settings.batch,
        precision=settings.precision, max_seconds=settings.max_seconds, cold=settings.cold, seed=settings.seed,
        own_runtimes=exported_for, **arguments,
    )  # fmt: skip
    measured += time_long_texts(
        files, baseline=baseline, threads=threads, batch=settings.batch, precision=settings.precision,
        # Beside the time of the median: long texts show how the models scale, which needs fewer rounds.
        max_seconds=settings.max_seconds / 3, seed=settings.seed, own_runtimes=exported_for,
    )  # fmt: skip
    if settings.sweep_threads or settings.sweep_batches:
        measured += sweep(
            files, baseline=baseline, threads=settings.sweep_threads or (threads,),
            batches=settings.sweep_batches or (settings.batch,), size=arguments.get("size"),
            precision=settings.precision, max_seconds=settings.max_seconds, seed=settings.seed,
            own_runtimes=exported_for,
        )  # fmt: skip
    return measured


def model_files(exports: Mapping[str, Artifact]) -> dict[str, Path]:
    """Return every exported file by its name, `<stage> fp32` or `<stage> int8`."""
    return {
        f"{name} {precision}": artifact.path / file
        for name, artifact in exports.items()
        for precision, file in FILES.items()
        if file in artifact.manifest.files
    }


def summarize(exports: Mapping[str, Artifact], measured: Report) -> Table:
    """Make a table of accuracy, latency and size with one row per model, the baseline first."""
    names = [row.name.removeprefix("p50/") for row in measured.rows if row.name.startswith("p50/")]
    eager = [name for name in names if name not in model_files(exports)]
    ordered = [n for n in names if n not in eager]
    rows = [_row(name, exports, measured) for name in [*ordered[:1], *eager, *ordered[1:]]]
    losses = class_losses(exports)
    if any(drop for drop, _ in losses.values()):
        none = (None, None)
        rows = [
            {**row, CLASS_DROP: losses.get(row["model"], none)[0], "of class": losses.get(row["model"], none)[1]}
            for row in rows
        ]
    return Table(title="Models, measured on the exported files", rows=tuple(rows))


def class_losses(exports: Mapping[str, Artifact]) -> dict[str, tuple[float, str]]:
    """Return the largest loss of a class against the baseline in points, and the class, by the name of the file.

    Files of exports with other validation examples, or without counts by class, are left out.
    """
    counted = {name: counts for name, artifact in exports.items() if (counts := class_counts(artifact))}
    first = counted.get(next(iter(exports)))
    if first is None:
        return {}
    losses = dict[str, tuple[float, str]]()
    for name, counts in counted.items():
        if counts.classes != first.classes or counts.counts.tolist() != first.counts.tolist():
            continue
        for precision, hits in counts.hits.items():
            both = replace(first, hits={"before": first.hits["fp32"], "after": hits})
            drop, worst = both.largest_drop("before", "after")
            losses[f"{name} {precision}"] = (max(drop, 0.0), first.classes[worst] if drop > 0 else "")
    return losses


def choose(summary: Table, max_drop: float, max_class_drop: float | None = None) -> str:
    """Choose the fastest model whose validation score is at most `max_drop` points below the baseline's.

    If `max_class_drop` is given, no class may lose more than so many points either.

    Of models as fast as it, within `AS_FAST`, the smallest file is chosen, and of equal ones the best score.
    A model without a latency ratio cannot be chosen: its file takes another number of images per call.
    """
    base = summary.rows[0]
    score = score_column(base)
    files = [row for row in summary.rows if str(row["model"]).rpartition(" ")[2] in FILES]
    fit = [row for row in files if row[score] >= base[score] - max_drop and row["p50 ratio"]]
    if max_class_drop is not None and CLASS_DROP in base:
        # A model that has lost a class too much, or was exported before classes were counted, is not chosen.
        fit = [row for row in fit if row[CLASS_DROP] is not None and row[CLASS_DROP] <= max_class_drop + 1e-9]
    # The ratio and not the p50: it is paired, so that drift of the machine cancels. The baseline itself always fits.
    limit = AS_FAST * min(float(row["p50 ratio"]) for row in fit)
    as_fast = [row for row in fit if float(row["p50 ratio"]) <= limit]
    return str(min(as_fast, key=lambda row: (row["size MB"], -row[score], row["p50 ratio"]))["model"])


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
