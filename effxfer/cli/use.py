"""Commands for exported models: bench, predict."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from effxfer.cli.options import DryRun, Force, Json, Seed, Set, numbers, table


def bench(
    exports: Annotated[list[Path], typer.Argument(help="Export directories or .onnx files; first: baseline.")],
    out: Annotated[Path | None, typer.Option(help="Output directory.")] = None,
    threads: Annotated[str | None, typer.Option(help="Threads; 0: one per core; 1,2: both.  [default: 1]")] = None,
    batch: Annotated[str | None, typer.Option(help="Images per call; 1,8,32 tries each.  [default: 1]")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Time limit of all models.  [default: 60]")] = None,
    max_p50_ratio: Annotated[float | None, typer.Option(help="Largest p50 ratio; above it, exit with 6.")] = None,
    max_mb: Annotated[float | None, typer.Option(help="Largest model to ship; above it, exit with 6.")] = None,
    compare: Annotated[Path | None, typer.Option(help="Earlier bench: its --json output or its --out.")] = None,
    max_regression: Annotated[str, typer.Option(help="With --compare: largest increase, else exit 6.")] = "5%",
    seed: Seed = None, changes: Set = None, force: Force = False, dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Benchmark exported models; enforce latency and size limits."""
    import effxfer
    from effxfer.api import preview
    from effxfer.benchmark.regression import parse_share
    from effxfer.cli import show

    call = partial(
        effxfer.bench, exports, out=out, threads=numbers_of("threads", threads), batch=numbers_of("batch", batch),
        max_seconds=max_seconds, max_p50_ratio=max_p50_ratio, max_mb=max_mb, compare=compare,
        max_regression=parse_share(max_regression), seed=seed, force=force, settings=table(changes),
    )  # fmt: skip
    if dry_run:
        show.document(preview(call))
        return
    with show.progress():
        compared = call()
    show.result(compared, as_json)
    compared.enforce()


def numbers_of(name: str, text: str | None) -> list[int] | None:
    """Parse an optional flag such as `4` or `1,2,4`."""
    return None if text is None else numbers(name, text)


def predict(
    model: Annotated[Path, typer.Argument(help="An exported .onnx file, or a directory with model.onnx.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    support: Annotated[Path | None, typer.Option(help="Few-shot classes: a folder of a few images per class.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to show per image.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="Threads, 0 for one per core.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write a table (.csv).")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Classify images with an exported model, without torch."""
    from effxfer.benchmark.untrusted.sandbox import call_in_sandbox
    from effxfer.benchmark.untrusted.vet import has_valid_seal, is_untrusted, locate, note_unverified
    from effxfer.cli import show
    from effxfer.cli.command_line import reproduce
    from effxfer.errors import DataError, ModelFileError
    from effxfer.runtime.images.preprocess import ImageError
    from effxfer.runtime.model import ModelError
    from effxfer.runtime.predict import predict_files
    from effxfer.runtime.printing import printable
    from effxfer.stages.runner.output_dir import check_file

    check_file(out)
    file = locate(model)
    # Labels and preprocessing are those of the file that was exported, not of one that another tool made of it.
    has_valid_seal(file)
    arguments: dict[str, Any] = {"file": str(file), "images": [str(image) for image in images], "top": top}
    arguments |= {"support": str(support) if support else None, "threads": threads}
    try:
        if is_untrusted(file):
            rows = call_in_sandbox(
                "effxfer.runtime.predict:predict_files", [file], arguments, seconds=2.0 * len(images)
            )
            for note in note_unverified([file]):
                show.say(f"note: {note}")
        else:
            rows = predict_files(**arguments)
    except ModelError as error:
        raise ModelFileError(error.problem, error.hint, code=error.code) from None
    except ImageError as error:
        raise DataError(error.problem, error.hint, code=error.code) from None
    if out:
        write_predictions(rows, out)
    if as_json:
        show.document({"predictions": rows})
    else:
        print(*(f"{printable(row['file'])}\t{_answer(row)}" for row in rows), reproduce(), sep="\n")
    failed = [row for row in rows if "error" in row]
    if failed:
        problem, first = f"{len(failed)} of {len(rows)} images failed", failed[0]
        raise DataError(problem, f"the first is {first['file']}: {first['error']}", code=first["error"][:4])


def _answer(row: Mapping[str, Any]) -> str:
    from effxfer.runtime.printing import printable

    if "error" in row:
        return printable(row["error"])
    return "\t".join(f"{printable(one['label'])} {100 * one['probability']:.1f} %" for one in row["top"])


def write_predictions(rows: Sequence[Mapping[str, Any]], file: Path) -> Path:
    """Write a CSV file (UTF-8) with one row per image: `file`, `label`, `probability`, `label 2` and so on, `error`.

    File names and labels that a spreadsheet would read as formulas are prefixed with `'` (see `csv_cell`).
    """
    import csv
    import io

    from effxfer.files import write_atomic
    from effxfer.runtime.printing import csv_cell

    text = io.StringIO(newline="")
    ranks = range(1, 1 + max((len(row.get("top", ())) for row in rows), default=1))
    names = [f"{what} {rank}".removesuffix(" 1") for rank in ranks for what in ("label", "probability")]
    writer = csv.DictWriter(text, ["file", *names, "error"], restval="")
    writer.writeheader()
    for row in rows:
        values = [one[what] for one in row.get("top", ()) for what in ("label", "probability")]
        cells = {"file": row["file"], **dict(zip(names, values, strict=False)), "error": row.get("error", "")}
        writer.writerow({name: csv_cell(value) for name, value in cells.items()})
    return write_atomic(file, text.getvalue().encode("utf-8", "backslashreplace"))
