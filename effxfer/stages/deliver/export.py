"""Export a network to ONNX, check the file against the network, and quantize it if int8 is faster."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from effxfer.artifact import describe
from effxfer.benchmark.measure.size import measure_size
from effxfer.data.labels.captions import with_caption_labels
from effxfer.data.task import Task, require_images
from effxfer.deploy.cpu.targets import resolve_target
from effxfer.deploy.export.few_shot.prototypes import (
    calibration_metadata,
    check_class_embeddings,
    check_prototypes,
    class_embeddings_of,
    exported_module,
)
from effxfer.deploy.export.few_shot.unknown_classes import add_rejection
from effxfer.deploy.export.image_sizes import second_size
from effxfer.deploy.export.logits import onnx_logits, open_model
from effxfer.deploy.export.onnx import export_onnx, load
from effxfer.deploy.export.opset import describe_excess
from effxfer.deploy.export.parity import REJECTED, check
from effxfer.deploy.export.preprocessing import add_preprocessing
from effxfer.deploy.export.preprocessing_parity import check_preprocessing, run_split
from effxfer.deploy.export.text_samples import length_metadata
from effxfer.deploy.int8.search import quantize
from effxfer.deploy.int8.target_policy import TargetPolicy
from effxfer.deploy.settings import ExportSettings
from effxfer.errors import GateError, ModelFileError, SettingsError
from effxfer.files import digest
from effxfer.net.heads.compare import Compare
from effxfer.net.heads.prototypes import Prototypes
from effxfer.net.net import Net
from effxfer.net.text.text_tower import FOLDER as TEXT_FOLDER
from effxfer.net.text.text_tower import TextTower
from effxfer.report import Measurement, Report
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.openvino.openvino_session import openvino_version
from effxfer.runtime.outputs.masked_token import MaskedToken
from effxfer.runtime.threads import usable_cores
from effxfer.stages.deliver.bundle import BUNDLE, bundle, find_libraries
from effxfer.stages.deliver.compressed_tasks import report_files
from effxfer.stages.deliver.decisions import report_decisions
from effxfer.stages.deliver.hf_inputs import require_texts, write_hf_files
from effxfer.stages.deliver.text_tower import file_recall, text_task
from effxfer.stages.settings.common import CLASSES, FILES, HF_FILES, PICTURES
from effxfer.stages.train.adapter_training import merge_adapters
from effxfer.stages.train.finetune import accuracy_report
from effxfer.stages.train.head import deliver_tasks, require_same_output
from effxfer.stages.train.image_text.towers import with_embedded_classes
from effxfer.stages.train.target_domain import evaluate_file_on_target
from effxfer.train.devices import Device
from effxfer.train.evaluate import score_rows
from effxfer.train.state import Work


def export(
    net: Net, tasks: Sequence[Task], settings: ExportSettings, *, device: Device, work: Work
) -> tuple[Net, Report]:
    """Write `model.onnx`, `model.int8.onnx` if it is faster and accurate enough, and optionally a bundle.

    Args:
        net: Network with a head for the classes of the last task.
        tasks: The validation split of the last task checks the files; its training split calibrates int8.
        settings: Format of the files, limits of the checks, and int8 recipes.
        device: Device of the torch network in the comparison; the files run on the CPU.
        work: Its `result` directory receives the files.

    Raises:
        DataError: If the classes of the task and the network differ.
        GateError: If the outputs of the file and the network differ.
        ResourceError: If a bundle is requested and a library of its page is not found; this is checked first.
    """
    # Resolved once, so that the gate, int8 and the bundle use the same number.
    settings = settings.model_copy(update={"threads": settings.threads or usable_cores()})
    task, folder = tasks[-1], work.result or Path()
    auxiliary = net.output.auxiliary if isinstance(net.output, TaskOutputs) else ()
    if net.text is None:
        task = deliver_tasks(net, task)
    _require_fitting(net, settings)
    libraries = find_libraries(net.input, settings) if settings.bundle else ()
    if net.text is not None:
        task = with_embedded_classes(net, with_caption_labels(task, net.classes), device)
        require_same_output(net, task)
    task = replace(task, output=net.output)  # with the network's own thresholds, and its own mean and deviation
    report = write_files(net, task, settings, folder, device)
    if net.text is not None:
        report += write_text_files(net.text, task, settings, folder, device)
    if settings.hf_inputs:
        report += write_hf_files(folder, net, task, settings)
    if settings.bundle:
        # A run that was killed leaves a part of one.
        shutil.rmtree(folder / BUNDLE, ignore_errors=True)
        files = [folder / file for file in FILES.values() if (folder / file).is_file()]
        report += bundle(
            folder / BUNDLE, files, net=net, task=task, accuracy=report, settings=settings, libraries=libraries
        )  # fmt: skip
    left_out = (f"auxiliary tasks left out of the file: {', '.join(auxiliary)}",) if auxiliary else ()
    runtime = (f"runtime: {openvino_version()}",) if settings.runtime == "openvino" else ()
    return net, report + zeros(net) + Report(notes=(*runtime, *left_out))


def write_files(net: Net, task: Task, settings: ExportSettings, folder: Path, device: Device) -> Report:
    """Write the file of a network, and an int8 one if it is faster and accurate enough; check and measure both.

    Raises:
        GateError: If the outputs of the file and the network differ.
    """
    # Left by a run that was cut off.
    for file in (*(file + REJECTED for file in (*FILES.values(), *HF_FILES.values())), CLASSES, PICTURES):
        (folder / file).unlink(missing_ok=True)
    net.cpu().eval()
    sizes = [second_size(net, net.input)] if settings.dynamic_size else []
    # Before the export: a merged adapter costs nothing in the file.
    proof = merge_adapters(net, task)
    module, prototypes = exported_module(net)
    fp32 = export_onnx(
        module, folder / FILES["fp32"], input=net.input, classes=net.classes, output=net.output, key=identity(net),
        opset=settings.opset, dynamic_size=settings.dynamic_size, prototypes=prototypes,
        class_embeddings=class_embeddings_of(net),
        extra={**length_metadata(task.val.rows), **calibration_metadata(net)},
    )  # fmt: skip
    gate = check(
        fp32, net, task.val.rows, task.val.labels, net.input,
        output=net.output, max_drop=settings.max_drop, tolerance=settings.tolerance, sizes=sizes,
        threads=settings.threads, runtime=settings.runtime,
    )  # fmt: skip
    report = proof + add_suffix(
        accuracy_report(net, task, replace(device, torch=next(net.parameters()).device)), "torch"
    )
    report += Report(rows=tuple(row for row in gate.rows if row.name.startswith("parity/")), notes=gate.notes)
    if settings.int8:
        report += try_int8(fp32, folder / FILES["int8"], task, settings)
    report += report_files(folder, net, task, settings)
    logits = dict[str, NDArray[np.float32]]()
    for precision, name in FILES.items():
        report += finish(folder / name, precision, task, settings, net, logits)
    return report + report_decisions(folder, logits, task, images=settings.images)


def write_text_files(tower: TextTower, task: Task, settings: ExportSettings, folder: Path, device: Device) -> Report:
    """Write the files of the text tower of a network of images, and measure retrieval by both.

    Their gate is the accuracy among class names of the different captions.
    """
    out = folder / TEXT_FOLDER
    out.mkdir(parents=True, exist_ok=True)
    # Of images alone.
    plain = settings.model_copy(update={"with_preprocessing": False, "dynamic_size": False})
    report = write_files(tower.net, text_task(tower, task), plain, out, device)
    report = replace(
        report,
        rows=tuple(replace(row, name=f"captions/{row.name}") for row in report.rows),
        tables=tuple(replace(table, title=f"Captions: {table.title}") for table in report.tables),
        curves=tuple(replace(curve, title=f"Captions: {curve.title}") for curve in report.curves),
    )
    if settings.with_preprocessing:
        return report
    return report + sum((file_recall(folder, out, tower, task, name, settings.threads) for name in FILES), Report())


def _require_fitting(net: Net, settings: ExportSettings) -> None:
    """Refuse settings that have no meaning for a network's input or output, before anything is written.

    Raises:
        SettingsError: If there are such settings.
    """
    if settings.bundle and isinstance(net.output, MaskedToken):
        text = "a bundle's card and page show no guesses of masked tokens"
        raise SettingsError(text, "finetune the network first")
    if settings.runtime == "openvino" and (net.text is not None or isinstance(net.head, Compare | Prototypes)):
        text = "OpenVINO takes no classes at run time, as the file of this network does"
        raise SettingsError(text, "set runtime = 'onnxruntime'")
    if settings.dynamic_size:
        require_images(net.input, "dynamic_size")
    if settings.hf_inputs:
        require_texts(net.input, "hf_inputs")


def try_int8(fp32: Path, out: Path, task: Task, settings: ExportSettings) -> Report:
    """Quantize, and report the candidates; `out` is written only if a candidate is faster and accurate enough."""
    try:
        _, report = quantize(
            fp32, out, calibration=task.train.rows, rows=task.val.rows, labels=task.val.labels,
            output=task.output, max_drop=settings.max_drop, recipes=settings.recipes,
            float_layers=settings.float_layers, max_class_drop=settings.max_class_drop,
            float_operators=settings.float_operators, images=settings.calibration,
            threads=settings.threads, latency_seconds=settings.latency_seconds,
            seed=settings.seed, target=resolve_target(settings.target), runtime=settings.runtime,
        )  # fmt: skip
    # float32 is a result by itself: that int8 cannot be had is a note.
    except ModelFileError as error:
        return Report(notes=(f"no int8 model: {error.problem}",))
    return report


def finish(
    file: Path, precision: str, task: Task, settings: ExportSettings, net: Net, logits: dict[str, NDArray[np.float32]]
) -> Report:  # fmt: skip
    """Add preprocessing to an exported file if the settings say so, and measure the file; skip an absent file.

    Its outputs `(N, C)` on the validation split are added to `logits`, if it is kept.
    """
    if not file.exists():
        return Report()
    exact = precision == "int8" and TargetPolicy(resolve_target(settings.target)).exact
    if violation := describe_excess(load(file), settings.opset):
        text = f"{file.name} is not of the operator set asked for: {violation}"
        raise ModelFileError(text, "export with a newer opset, or without int8", code="E431")
    model = open_model(file, settings.threads, exact=exact, runtime=settings.runtime)
    report = add_suffix(check_prototypes(model, net, task.val.rows, settings.tolerance), precision)
    if precision == "fp32":
        report += add_suffix(check_class_embeddings(model, net, task.val.rows, settings.tolerance), precision)
    report += add_suffix(evaluate_file_on_target(model, task, net), precision)
    report += add_suffix(add_rejection(file, model, net, task), precision)
    if not settings.with_preprocessing:
        return report + measure_file(file, precision, task, settings, logits)
    try:
        return report + measure_whole_images(file, precision, task, settings, logits)
    except GateError as error:
        # An int8 file may go; without float32 there is no result.
        if precision == "fp32":
            raise
        file.with_name(file.name + REJECTED).unlink()
        return Report(notes=(f"no {precision} model: {error.problem}",))


def measure_file(
    file: Path, precision: str, task: Task, settings: ExportSettings, logits: dict[str, NDArray[np.float32]]
) -> Report:  # fmt: skip
    """Measure the accuracy of an exported file on the reported splits, and its share of zero weights; see `finish`."""
    exact = precision == "int8" and TargetPolicy(resolve_target(settings.target)).exact
    rows = list[Measurement]()
    for name, split in task.reported_splits.items():
        raw = onnx_logits(file, split.rows, threads=settings.threads, exact=exact, runtime=settings.runtime)
        rows += score_rows(task.output, raw, split.labels, f"{name}/{precision}", task.input.unit)
        if split is task.val:
            logits[precision] = raw
    return Report(rows=(*rows, file_zeros(file, precision)))


def measure_whole_images(
    file: Path, precision: str, task: Task, settings: ExportSettings, logits: dict[str, NDArray[np.float32]]
) -> Report:  # fmt: skip
    """Add preprocessing to an exported file, and measure it on the original images, which it resizes itself.

    What is added to `logits`, see `finish`, are the outputs before preprocessing was added.

    Raises:
        GateError: If its preprocessing differs from that of the training.
    """
    expected = onnx_logits(file, task.val.rows, threads=settings.threads)
    add_preprocessing(file)
    gate = check_preprocessing(
        file, task.val, expected, output=task.output, max_drop=settings.preprocessing_drop, threads=settings.threads
    )  # fmt: skip
    logits[precision] = expected
    image_rows = [row for row in gate.rows if row.name.split("/")[1:2] == ["whole"]]  # behind the metric, before a task
    rows = (
        *(replace(row, name=f"{row.name.replace('/whole', '/val', 1)}/{precision}") for row in image_rows),
        *measure_test_split(file, precision, task, settings),
        file_zeros(file, precision),
        *(replace(row, name=f"{row.name}/{precision}") for row in gate.rows if row.name.startswith("preprocessing/")),
    )
    return Report(rows=rows, notes=gate.notes)


def measure_test_split(file: Path, precision: str, task: Task, settings: ExportSettings) -> tuple[Measurement, ...]:
    """Measure a file with preprocessing on the test split, if there is one."""
    if not len(task.test):
        return ()
    outputs = run_split(file, task.test, threads=settings.threads)
    return score_rows(task.output, task.output.from_answers(outputs.answers), task.test.labels, f"test/{precision}")


def file_zeros(file: Path, precision: str) -> Measurement:
    """Return the share of zero weights in an exported file, in percent."""
    size, of = measure_size(file), "the file's weights"
    return Measurement(name=f"zeros/{precision}", value=size.zeros, unit="%", of=of, n=size.params)


def identity(net: Net) -> str:
    """Digest a network's architecture and weights; exported files record the digest."""
    import hashlib

    weights = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        weights.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest([describe(net), weights.hexdigest()])


def zeros(net: Net) -> Report:
    """Return the share of parameters that a ticket's masks hold at zero, in percent."""
    total = sum(p.numel() for p in net.parameters())
    removed = sum(int((~keep).sum()) for keep in net.masks().values())
    return Report(
        rows=(Measurement(name="zeros", value=100 * removed / total, unit="%", of="all parameters", n=total),)
    )


def add_suffix(report: Report, suffix: str) -> Report:
    """Add a suffix to the names of all rows."""
    return replace(report, rows=tuple(replace(row, name=f"{row.name}/{suffix}") for row in report.rows))
