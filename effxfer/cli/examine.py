"""Commands that look without changing anything: check, rank, models, doctor, cpus."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from effxfer.cli.options import Data, Device, DryRun, Json, Seed, Set, table, words


def check(
    data: Annotated[str, typer.Argument(help="Folder of class folders, table (.csv, .parquet), or digits.")],
    out: Annotated[Path | None, typer.Option(help="Write data_audit.csv into this directory.")] = None,
    suspects: Annotated[
        str, typer.Option(metavar="BACKBONE", help="Find labels that may be wrong, by its features.")
    ] = "",
    changes: Set = None, device: Device = "auto", as_json: Json = False,
) -> None:  # fmt: skip
    """Audit a data set: unreadable images, leaks between splits, odd layouts. Exits with 3 if there are errors."""
    import effxfer
    from effxfer.cli import show

    with show.progress():
        checked = effxfer.check(data, out=out, suspects=suspects, device=device, settings=table(changes))
    show.result(checked, as_json)
    checked.raise_errors()


def rank(
    data: Data,
    backbones: Annotated[str, typer.Option(help="Sources, separated by commas.")] = "",
    by: Annotated[str | None, typer.Option(help="Order by this score.  [default: linear]")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the images in pixels.  [default: each backbone's]")] = None,
    out: Annotated[Path | None, typer.Option(help="Write rank.html into this directory.")] = None,
    seed: Seed = None, changes: Set = None, device: Device = "auto", dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Compare backbones on a task before anything is trained: scores of features, against measured latency."""
    import effxfer
    from effxfer.api import preview
    from effxfer.cli import show
    from effxfer.cli.command_line import reproduce

    call = partial(
        effxfer.rank, data, words(backbones), by=by, size=size, out=out, seed=seed, device=device,
        command=reproduce(), settings=table(changes),
    )  # fmt: skip
    if dry_run:
        show.document(preview(call))
        return
    with show.progress():
        ranking = call()
    show.result(ranking, as_json)


def models(
    pattern: Annotated[str, typer.Argument(help="Such as 'mobilenet*'; empty lists bundled models.")] = "",
    library: Annotated[str, typer.Option(help="timm or torchvision.")] = "timm",
    as_json: Json = False,
) -> None:  # fmt: skip
    """List bundled backbones, or what timm and torchvision offer."""
    from effxfer.artifact import bundled, bundled_models, read_manifest
    from effxfer.cli import show
    from effxfer.report import Report, Table

    if pattern:
        from effxfer.net.backbones.architectures import names

        found = tuple({"backbone": f"{library}:{name}"} for name in names(library, pattern))
        show.report(Report(tables=(Table(title=f"{len(found)} networks of {library}", rows=found),)), as_json)
        return
    rows = list[dict[str, object]]()
    for name in bundled_models():
        manifest = read_manifest(bundled("models") / name)
        report = Report.from_json(manifest["report"])
        size = manifest["preprocess"]["size"]
        rows.append(
            {
                "backbone": name,
                "input": f"{size} px",
                "classes": len(manifest["classes"]),
                "test %": report.get("accuracy/test"),
            }
        )
    note = "`effxfer models 'mobilenet*'` lists what timm offers"
    show.report(Report(tables=(Table(title="Bundled", rows=tuple(rows)),), notes=(note,)), as_json)


def doctor(
    model: Annotated[
        Path | None, typer.Argument(help="An .onnx file, or the directory that holds model.onnx; none: the machine.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of ONNX Runtime.  [default: 1]")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images per call.  [default: 1]")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Of free axes other than the batch.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Time for all comparisons.  [default: 30]")] = None,
    top: Annotated[int | None, typer.Option(min=0, help="Slowest kernels to list.  [default: 12]")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Say why a model is not faster; without one, what this machine has and which `pip install` brings the rest."""
    from effxfer.cli import show
    from effxfer.errors import SettingsError

    given = {"threads": threads, "batch": batch, "size": size, "max_seconds": max_seconds, "top": top}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if model is None:
        from effxfer.benchmark.machine.doctor import diagnose

        if chosen:
            raise SettingsError(f"--{min(chosen).replace('_', '-')} is about a model", "name an .onnx file")
        report, _checks = diagnose()
    else:
        from effxfer.benchmark.untrusted.vet import locate
        from effxfer.deploy.diagnose.model_report import examine

        with show.progress():
            report, _found = examine(locate(model), **chosen)
    show.report(report, as_json)


def cpus(
    model: Annotated[Path, typer.Argument(help="An exported .onnx file, or the directory that holds it.")],
    data: Annotated[str, typer.Option(help="Folder of class folders, table (.csv, .parquet), or digits.")],
    images: Annotated[int, typer.Option(min=1, help="Validation images to use.")] = 32,
    emulate: Annotated[list[str] | None, typer.Option(help="avx2, sse, arm64, arm64-dot: run there by QEMU.")] = None,
    arm_root: Annotated[Path | None, typer.Option(help="ARM Python that benchmarks/arm64_root.sh makes.")] = None,
    changes: Set = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Say on which CPUs an exported model answers the same: counted, and run on emulated ones."""
    from effxfer.cli import show
    from effxfer.data.settings import DataSettings
    from effxfer.deploy.cpu.emulator import check_on_cpus
    from effxfer.settings import build

    settings = build(DataSettings, {**table(changes), "source": data}, "data")
    with show.progress():
        report = check_on_cpus(model, settings, images=images, names=emulate or [], root=arm_root)
    show.report(report, as_json)
