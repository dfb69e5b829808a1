"""Commands without a stage: check, rank, embed, models, doctor, cpus."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from effxfer.cli.options import Data, Device, DryRun, Json, Seed, Set, table, words


def check(
    data: Annotated[str, typer.Argument(help="Image folder by class, table (.csv, .parquet), digits, or texts.")],
    out: Annotated[Path | None, typer.Option(help="Write data_audit.csv into this directory.")] = None,
    suspects: Annotated[
        str, typer.Option(metavar="BACKBONE", help="Find suspicious labels from this backbone's features.")
    ] = "",
    changes: Set = None, device: Device = "auto", as_json: Json = False,
) -> None:  # fmt: skip
    """Audit a data set.

    Find unreadable images, damaged texts, leaks between splits and odd layouts. The exit code is 3 if there are errors.
    """
    import effxfer
    from effxfer.cli import show

    with show.progress():
        checked = effxfer.check(data, out=out, suspects=suspects, device=device, settings=table(changes))
    show.result(checked, as_json)
    checked.raise_errors()


def rank(
    data: Data,
    backbones: Annotated[str, typer.Option(help="Comma-separated backbones.")] = "",
    by: Annotated[str | None, typer.Option(help="Score to sort by.  [default: linear]")] = None,
    size: Annotated[int | None, typer.Option(help="Image side in pixels.  [default: each backbone's]")] = None,
    out: Annotated[Path | None, typer.Option(help="Write rank.html into this directory.")] = None,
    seed: Seed = None, changes: Set = None, device: Device = "auto", dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Rank backbones on your data without training.

    The report plots transferability scores of the features against measured latency.
    """
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


def embed(
    classes: Annotated[list[str], typer.Argument(help="Names of classes; or image files.")],
    encoder: Annotated[str, typer.Option(help="Text encoder, hf:FOLDER, word vectors, or a .onnx tower.")],
    out: Annotated[Path, typer.Option(help="The table (.csv) to write.")],
    prompt: Annotated[list[str] | None, typer.Option(help="Text around a name, {}; repeat to average.")] = None,
    device: Device = "auto", as_json: Json = False,
) -> None:  # fmt: skip
    """Write a table of classes from their names, for zero-shot strategies and `predict --classes`."""
    import effxfer
    from effxfer.cli import show

    with show.progress():
        table = effxfer.embed_classes(classes, encoder, out=out, prompts=prompt or ("{}",), device=device)
    show.result(table, as_json)


def models(
    pattern: Annotated[str, typer.Argument(help="Pattern such as 'mobilenet*'; empty lists bundled models.")] = "",
    library: Annotated[str, typer.Option(help="timm or torchvision.")] = "timm",
    as_json: Json = False,
) -> None:  # fmt: skip
    """List bundled backbones, or those of timm and torchvision."""
    import effxfer
    from effxfer.cli import show

    show.result(effxfer.list_models(pattern, library=library), as_json)


def doctor(
    model: Annotated[
        Path | None, typer.Argument(help="An .onnx file or a directory with model.onnx; omit to check the machine.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="ONNX Runtime threads.  [default: 1]")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images per call.  [default: 1]")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Size of dynamic axes other than the batch.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Time limit of all comparisons.  [default: 30]")] = None,
    top: Annotated[int | None, typer.Option(min=0, help="Number of slowest kernels to list.  [default: 12]")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Explain why a model is slow, or check this machine.

    Without a model, list the installed features and the `pip install` commands for missing ones.
    """
    from effxfer.cli import show
    from effxfer.errors import SettingsError

    flags = {"threads": threads, "batch": batch, "size": size, "max_seconds": max_seconds, "top": top}
    chosen: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    if model is None:
        # Not through the api, which imports numpy: this has to work where an installation is broken.
        from effxfer.benchmark.machine.doctor import diagnose

        if chosen:
            raise SettingsError(f"--{min(chosen).replace('_', '-')} needs a MODEL argument", "name an .onnx file")
        show.report(diagnose()[0], as_json)
        return
    import effxfer

    with show.progress():
        diagnosis = effxfer.doctor(model, **chosen)
    show.result(diagnosis, as_json)


def cpus(
    model: Annotated[Path, typer.Argument(help="An exported .onnx file, or its directory.")],
    data: Annotated[str, typer.Option(help="Image folder by class, table (.csv, .parquet), or digits.")],
    images: Annotated[int, typer.Option(min=1, help="Validation images to use.")] = 32,
    emulate: Annotated[list[str] | None, typer.Option(help="Run in QEMU: avx2, sse, arm64, arm64-dot; repeat.")] = None,
    arm_root: Annotated[Path | None, typer.Option(help="ARM root made by benchmarks/arm64_root.sh.")] = None,
    changes: Set = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Check on which CPUs an exported model predicts the same.

    Saturating sums are counted, and the model is run on emulated CPUs.
    """
    import effxfer
    from effxfer.cli import show

    with show.progress():
        checked = effxfer.check_cpus(
            model, data, images=images, emulate=emulate or (), arm_root=arm_root, settings=table(changes)
        )
    show.result(checked, as_json)
