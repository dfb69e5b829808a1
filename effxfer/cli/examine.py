"""Commands that look without changing anything: check, rank, models, doctor, cpus."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from effxfer.cli.options import Data, Device, DryRun, Json, Seed, Set, table

if TYPE_CHECKING:
    from effxfer.data.listing import Finding
    from effxfer.data.settings import DataSettings


def check(
    data: Annotated[str, typer.Argument(help="Folder of class folders, table (.csv, .parquet), or digits.")],
    out: Annotated[Path | None, typer.Option(help="Write data_audit.csv into this directory.")] = None,
    suspects: Annotated[
        str, typer.Option(metavar="BACKBONE", help="Find labels that may be wrong, by its features.")
    ] = "",
    changes: Set = None, device: Device = "auto", as_json: Json = False,
) -> None:  # fmt: skip
    """Audit a data set: unreadable images, leaks between splits, odd layouts. Exits with 3 if there are errors."""
    from functools import partial

    from effxfer.cli import show
    from effxfer.cli.adapt import inner
    from effxfer.data.checks.audit import audit
    from effxfer.data.listing import raise_errors
    from effxfer.data.settings import DataSettings
    from effxfer.settings import build
    from effxfer.stages.runner.output_dir import check_file_in, keep_out_of

    given = table(changes)
    told = inner(given, "data")
    settings = build(DataSettings, {**given, **told, "source": data}, "data")
    if out:
        keep_out_of(out, [settings])
    file = check_file_in(out, "data_audit.csv") if out else None
    also = partial(_suspected, suspects, settings, device) if suspects else tuple
    with show.progress():
        found = audit(settings, also=also)
    if file:
        found.write_csv(file)
    show.result(found.report, as_json)
    raise_errors(found.findings, data)


def _suspected(source: str, data: "DataSettings", device: str) -> "Sequence[Finding]":
    """Find labels that may be wrong by a backbone's features."""
    from effxfer.net.settings import BackboneSettings
    from effxfer.settings import build
    from effxfer.stages.data.mislabelled import mislabelled
    from effxfer.stages.runner.context import RunContext

    backbone = build(BackboneSettings, {"source": source}, "backbone")
    return mislabelled(backbone, data, RunContext(out=Path("check"), device=device))


def rank(
    data: Data,
    backbones: Annotated[str, typer.Option(help="Sources, separated by commas.")] = "",
    by: Annotated[str | None, typer.Option(help="Order by this score.  [default: linear]")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the images in pixels.  [default: each backbone's]")] = None,
    out: Annotated[Path | None, typer.Option(help="Write rank.html into this directory.")] = None,
    seed: Seed = None, changes: Set = None, device: Device = "auto", dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Compare backbones on a task before anything is trained: scores of features, against measured latency."""
    from effxfer.cli import reproduce, show
    from effxfer.data.settings import DataSettings
    from effxfer.settings import build
    from effxfer.stages.runner.output_dir import check_file_in
    from effxfer.stages.settings.common import Rank

    sources = [source.strip() for source in backbones.split(",") if source.strip()] or None
    given = table(changes, backbones=sources, by=by, size=size, seed=seed)
    task = build(DataSettings, {"source": data, **given.pop("data", {})}, "data")
    settings = build(Rank, given, "rank")
    file = check_file_in(out, "rank.html") if out else None
    if dry_run:
        from effxfer.data.load import scan
        from effxfer.stages.runner.checks import NOT_CHECKED, check_settings

        check_settings(settings)
        scan(task)
        show.document({"stage": "rank", "data": task.plain(), "settings": settings.plain(), "note": NOT_CHECKED})
        return
    from effxfer.stages.data.rank_backbones import rank as ranking
    from effxfer.stages.runner.context import RunContext

    with show.progress():
        report = ranking(settings, task, RunContext(out=out or Path("rank"), device=device))
    facts = {}
    if file:
        from effxfer.benchmark.machine.facts import facts as machine
        from effxfer.page import Section, write_page

        section = Section(title="rank", report=report, command=reproduce())
        title = f"Backbones for {Path(task.source).name}"
        page = write_page(file, title=title, sections=[section], summary=report.tables[0], facts=machine())
        facts["page"] = page
    show.result(report, as_json, **facts)


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
        show.result(Report(tables=(Table(title=f"{len(found)} networks of {library}", rows=found),)), as_json)
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
    show.result(Report(tables=(Table(title="Bundled", rows=tuple(rows)),), notes=(note,)), as_json)


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
    show.result(report, as_json)


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
    from effxfer.deploy.cpu.emulator import examine
    from effxfer.settings import build

    settings = build(DataSettings, {**table(changes), "source": data}, "data")
    with show.progress():
        report = examine(model, settings, images=images, names=emulate or [], root=arm_root)
    show.result(report, as_json)
