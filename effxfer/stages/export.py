"""Write a network as ONNX, prove that it answers like the network, and quantize it where that is worth it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from effxfer.artifact import describe
from effxfer.bench.size import measure_size
from effxfer.data.task import Task
from effxfer.deploy.gate import REJECTED, check, evaluate_onnx
from effxfer.deploy.int8 import quantize
from effxfer.deploy.onnx import export_onnx
from effxfer.deploy.settings import ExportSettings
from effxfer.deploy.tune import tune
from effxfer.errors import DataError, ModelFileError
from effxfer.files import digest
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.stages.finetune import measured
from effxfer.stages.run import RESULT
from effxfer.stages.settings import FILES
from effxfer.train.devices import Device
from effxfer.train.state import Work


def export(
    net: Net, tasks: Sequence[Task], settings: ExportSettings, *, device: Device, work: Work
) -> tuple[Net, Report]:
    """Write `model.onnx`, and `model.int8.onnx` if it is both faster and accurate enough.

    Args:
        net: With a head for the classes of the last task.
        tasks: The last one's validation split is the gate's, its training split calibrates int8.
        settings: Format, gate and int8.
        device: Where torch's side of the comparison runs; the files run on the CPU.
        work: The files are left in its `result`.

    Raises:
        DataError: If the task's classes are not the network's.
        GateError: If the ONNX model does not answer like the network.
    """
    task, folder = tasks[-1], work.file(RESULT) or Path()
    if net.classes != task.classes:
        raise DataError(
            f"the network knows {list(net.classes)}, the data hold {list(task.classes)}", "finetune it first"
        )
    for file in FILES.values():
        (folder / (file + REJECTED)).unlink(missing_ok=True)
    net.cpu().eval()
    fp32 = export_onnx(
        net, folder / FILES["fp32"], preprocess=net.preprocess, classes=net.classes, key=identity(net),
        opset=settings.opset, with_preprocessing=settings.with_preprocessing,
    )  # fmt: skip
    gate = check(
        fp32, net, task.val.pixels, task.val.labels, net.preprocess,
        max_drop=settings.max_drop, tolerance=settings.tolerance, threads=settings.threads,
    )  # fmt: skip
    report = renamed(measured(net, task, replace(device, torch=next(net.parameters()).device)), "torch")
    report += Report(rows=tuple(row for row in gate.rows if row.name.startswith("parity/")), notes=gate.notes)
    int8 = try_int8(fp32, folder / FILES["int8"], task, settings) if settings.int8 else Report()
    report += try_tune(fp32, "fp32", task, settings) + on_file(fp32, "fp32", task, settings) + int8
    return net, report + zeros(net)


def try_int8(fp32: Path, out: Path, task: Task, settings: ExportSettings) -> Report:
    """Quantize, and say what was tried; `out` exists afterwards only if it is worth it."""
    try:
        kept, report = quantize(
            fp32, out, calibration=task.train.pixels, pixels=task.val.pixels, labels=task.val.labels,
            max_drop=settings.max_drop, recipes=settings.recipes, images=settings.calibration,
            threads=settings.threads, latency_seconds=settings.latency_seconds, seed=settings.seed,
        )  # fmt: skip
    except ModelFileError as error:
        return Report(notes=(f"no int8 model: {error.problem}",))
    if kept is None:
        return report
    return report + try_tune(kept, "int8", task, settings) + on_file(kept, "int8", task, settings)


def try_tune(file: Path, precision: str, task: Task, settings: ExportSettings) -> Report:
    """Make a file faster if that is asked for and works, and say what was tried."""
    if not settings.tune:
        return Report()
    report = tune(
        file, pixels=task.val.pixels, tolerance=settings.tolerance, threads=settings.threads,
        seconds=settings.tune_seconds, seed=settings.seed,
    )  # fmt: skip
    return renamed(report, precision)


def on_file(file: Path, precision: str, task: Task, settings: ExportSettings) -> Report:
    """Measure an exported file: its accuracy on the validation and the test split, and how many weights are zero."""
    splits, size = {"val": task.val, "test": task.test}, measure_size(file)
    rows = [
        evaluate_onnx(file, s.pixels, s.labels, threads=settings.threads, name=f"accuracy/{name}/{precision}")
        for name, s in splits.items()
    ]
    of = "the file's weights"
    zeros = Measurement(name=f"zeros/{precision}", value=size.zeros, unit="%", of=of, n=size.params)
    return Report(rows=(*rows, zeros))


def identity(net: Net) -> str:
    """Digest a network's architecture and weights: what an exported file can be traced back to."""
    import hashlib

    weights = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        weights.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest([describe(net), weights.hexdigest()])


def zeros(net: Net) -> Report:
    """Share of the parameters that a ticket holds at zero."""
    total = sum(p.numel() for p in net.parameters())
    gone = sum(int((~keep).sum()) for keep in net.kept().values())
    return Report(rows=(Measurement(name="zeros", value=100 * gone / total, unit="%", of="all parameters", n=total),))


def renamed(report: Report, suffix: str) -> Report:
    """Add a suffix to the names of all rows."""
    return replace(report, rows=tuple(replace(row, name=f"{row.name}/{suffix}") for row in report.rows))
