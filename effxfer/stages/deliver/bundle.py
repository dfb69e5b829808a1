"""Write a bundle of exported models, with measurements of its files."""

from collections.abc import Sequence
from pathlib import Path

from effxfer.benchmark.compare import bench_models
from effxfer.data.task import Task
from effxfer.deploy.bundle.bundle import UNKNOWN, Origin, write_bundle
from effxfer.deploy.bundle.ort_web import OrtWeb
from effxfer.deploy.settings import ExportSettings
from effxfer.net.net import Net
from effxfer.report import Measurement, Report
from effxfer.runtime.threads import usable_cores

BUNDLE = "bundle"


def bundle(
    folder: Path,
    files: Sequence[Path],
    *,
    net: Net,
    task: Task,
    accuracy: Report,
    settings: ExportSettings,
    web: OrtWeb,
) -> Report:
    """Time exported files, and write a bundle with them.

    Args:
        folder: Folder to write, which must not exist.
        files: Exported files, float32 first.
        net: The exported network.
        task: Task on which its accuracy was measured.
        accuracy: Report with rows `accuracy/SPLIT/PRECISION`.
        settings: Licences for the model card; threads and seconds of the latency measurement.
        web: ONNX Runtime Web for the bundle's page.

    Returns:
        The size of the bundle in MB, and a note on its use.
    """
    # One cold start and no least duration: figures for a README, within the seconds that the settings give.
    speed = bench_models(
        {file.name: file for file in files}, baseline=files[0].name, threads=settings.threads or usable_cores(),
        size=net.input.size, max_seconds=settings.latency_seconds, min_seconds=0.0, cold=1, seed=settings.seed,
    )  # fmt: skip
    backbone = str(net.backbone.get("source", UNKNOWN)).partition("@")[0]
    origin = Origin(
        title=f"{task.name} classifier", backbone=backbone, backbone_license=settings.backbone_license, data=task.name,
        data_license=settings.data_license,
    )  # fmt: skip
    write_bundle(folder, files, origin=origin, accuracy=accuracy, speed=speed, web=web)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Report(
        rows=(Measurement(name="bundle", value=size / 1e6, unit="MB"),),
        notes=(f"bundle: {BUNDLE}/README.md says how to use it; its page needs a web server: `python -m http.server`",),
    )
