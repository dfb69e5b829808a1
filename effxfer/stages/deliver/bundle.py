"""Write a bundle of exported models, with measurements of its files."""

from collections.abc import Sequence
from pathlib import Path

from effxfer.benchmark.compare import bench_models
from effxfer.benchmark.measure.serving import measure_serving, serving_report
from effxfer.benchmark.protocol.runners import feed_for, unit_of
from effxfer.data.task import Task
from effxfer.deploy.bundle.bundle import write_bundle
from effxfer.deploy.bundle.card import TASKS, UNKNOWN, Origin
from effxfer.deploy.bundle.page import Page, place_kind
from effxfer.deploy.bundle.tokenizer_check import Fields, find_difference
from effxfer.deploy.bundle.web_library import ORT_WEB, TOKENIZERS_WEB, WebFiles, find_library
from effxfer.deploy.settings import ExportSettings
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.runtime.inputs import Input
from effxfer.runtime.text.tokens import Tokens
from effxfer.runtime.threads import usable_cores

BUNDLE = "bundle"
TITLES = {
    "multi": "classifier", "single": "classifier", "span": "question answerer", "tags": "tagger", "tasks": "network",
    "value": "estimator",
}  # fmt: skip


def find_libraries(input: Input, settings: ExportSettings) -> tuple[WebFiles, ...]:
    """Find what the page of a bundle loads: ONNX Runtime Web, and for texts Tokenizers.js.

    Raises:
        ResourceError: If one is not found, and cannot be fetched.
        SettingsError: If the network takes neither images nor texts, which a bundle shows.
    """
    if input.kind not in TASKS:
        text = f"a bundle needs images or texts, this network takes {input.unit}"
        raise SettingsError(text, "leave out `bundle`, and pass on the exported file")
    ort = find_library(ORT_WEB, settings.ort_web or "")
    if not isinstance(input, Tokens):
        return (ort,)
    return ort, find_library(TOKENIZERS_WEB, settings.tokenizers_web or "")


def bundle(
    folder: Path,
    files: Sequence[Path],
    *,
    net: Net,
    task: Task,
    accuracy: Report,
    settings: ExportSettings,
    libraries: Sequence[WebFiles],
) -> Report:
    """Time exported files, and write a bundle with them.

    Args:
        folder: Folder to write, which must not exist.
        files: Exported files, float32 first.
        net: The exported network.
        task: Task on which its accuracy was measured.
        accuracy: Report with rows `METRIC/SPLIT/PRECISION`.
        settings: Licences for the model card; threads and seconds of the latency measurement.
        libraries: Result of `find_libraries`.

    Returns:
        The size of the bundle in MB, what processes and threads serve, and notes on its use and on what its page cannot
        do.
    """
    # One cold start and no least duration: figures for a README, within the seconds that the settings give.
    speed = bench_models(
        {file.name: file for file in files}, baseline=files[0].name, threads=settings.threads or usable_cores(),
        # Texts are timed at the median length, which the file states.
        size=None if isinstance(net.input, Tokens) else net.input.size,
        max_seconds=settings.latency_seconds, min_seconds=0.0, cold=1, seed=settings.seed,
        own_runtimes={file.name: settings.runtime for file in files},
    )  # fmt: skip
    served = serve(files[-1], net.input, settings)
    backbone = str(net.backbone.get("source", UNKNOWN)).partition("@")[0]
    origin = Origin(
        title=f"{task.name} {TITLES[task.output.kind]}", backbone=backbone, backbone_license=settings.backbone_license,
        data=task.name, data_license=settings.data_license, runtime=settings.runtime,
    )  # fmt: skip
    page = check_page(net.input, task, libraries)
    write_bundle(folder, files, origin=origin, accuracy=accuracy, speed=speed + served, page=page)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    server = "; its page needs a web server: `python -m http.server`" if page.libraries else ""
    notes = (f"bundle: {BUNDLE}/README.md says how to use it{server}", *([f"bundle: {page.note}"] if page.note else ()))
    return Report(rows=(Measurement(name="bundle", value=size / 1e6, unit="MB"),), notes=notes) + served


def serve(file: Path, input: Input, settings: ExportSettings) -> Report:
    """Measure whether one process with all threads or several with fewer serve more; empty on a single core.

    Args:
        file: The file that ships.
        input: The network's input.
        settings: Runtime and seconds of the latency measurement.
    """
    cores = usable_cores()
    if cores == 1:
        return Report()
    feed = feed_for(file, size=None if isinstance(input, Tokens) else input.size, seed=settings.seed)
    seconds = settings.latency_seconds / 2  # chosen: few layouts, whose rates differ by more than files' latencies
    served = measure_serving(file, feed, cores=cores, seconds=seconds, runtime=settings.runtime)
    return serving_report(served, file.name, unit_of(feed))


def check_page(input: Input, task: Task, libraries: Sequence[WebFiles]) -> Page:
    """Return the page of a bundle; without its libraries if it would tokenize texts otherwise than the model expects.

    Args:
        input: The network's input.
        task: Its validation texts are tokenized as the page does it, if their source is still available.
        libraries: Result of `find_libraries`.
    """
    if not isinstance(input, Tokens):
        return Page(libraries=tuple(libraries))
    texts = validation_texts(task)
    try:
        difference = find_difference(input, texts, libraries[-1], place_kind(task.output))
    except FileNotFoundError:
        note = "Whether the page tokenizes texts as the model expects was not checked: there was no Node.js"
        return Page(libraries=tuple(libraries), note=note)
    if difference:
        return Page(note=f"There is no web page: {libraries[-1].library.title} cannot be used, {difference}")
    return Page(libraries=tuple(libraries))


def validation_texts(task: Task) -> list[Fields]:
    """Return the validation texts of a task by field; none if its source is not available any more."""
    decode = task.val.decode_row
    sources = [] if decode is None else [decode(row) for row in range(len(task.val))]
    # Words are a text with blanks between them: the page takes no lists.
    return [
        source if isinstance(source, tuple) else (source if isinstance(source, str) else " ".join(source),)
        for source in sources
    ]
