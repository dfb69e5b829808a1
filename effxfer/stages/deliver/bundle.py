"""Put exported models into a bundle, with figures measured on its files."""

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
    """Write `folder`, which must not exist.

    Args:
        folder: Where.
        files: float32 first.
        net: What was exported.
        task: What its accuracy was measured on.
        accuracy: Rows `accuracy/SPLIT/PRECISION`.
        settings: Licences; threads and seconds of the measurement.
        web: ONNX Runtime Web.

    Returns:
        How large the bundle is.
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
