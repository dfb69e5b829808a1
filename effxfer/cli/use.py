"""Commands for models that are there: bench, report, predict."""

from collections.abc import Sequence
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


def report(
    models: Annotated[list[Path], typer.Argument(help="Model directories, the uncompressed one first.")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="Data with the models' classes; repeat for tasks in time.  [default: the first's]"),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Another domain with these classes, or new classes.")] = None,
    out: Annotated[Path | None, typer.Option(help="Output directory.")] = None,
    level: Annotated[float | None, typer.Option(help="Confidence level of intervals.  [default: 0.95]")] = None,
    max_drop: Annotated[float | None, typer.Option(help="Largest loss on any of several tasks, in points.")] = None,
    seed: Seed = None, changes: Set = None, force: Force = False, dry_run: DryRun = False, as_json: Json = False,
) -> None:  # fmt: skip
    """Report what compression costs on the worst class, another domain, or new classes."""
    import effxfer
    from effxfer.api import preview
    from effxfer.cli import show

    call = partial(
        effxfer.transfer_report, models, data=data or None, target=target, out=out, level=level, max_drop=max_drop,
        seed=seed, force=force, settings=table(changes),
    )  # fmt: skip
    if dry_run:
        show.document(preview(call))
        return
    with show.progress():
        reported = call()
    show.result(reported, as_json)


def numbers_of(name: str, text: str | None) -> list[int] | None:
    """Parse an optional flag such as `4` or `1,2,4`."""
    return None if text is None else numbers(name, text)


def predict(
    model: Annotated[Path, typer.Argument(help="An exported .onnx file, or a directory with model.onnx.")],
    files: Annotated[list[Path] | None, typer.Argument(help="Images, texts, or .npy, .npz of vectors.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text; may be repeated.")] = None,
    pair: Annotated[list[str] | None, typer.Option(help="Second text of a pair, for each --text.")] = None,
    text_file: Annotated[Path | None, typer.Option(help="A text per line (pairs: a tab between), or .jsonl.")] = None,
    support: Annotated[Path | None, typer.Option(help="Few-shot classes: a folder per class, or a file.")] = None,
    enroll: Annotated[bool, typer.Option("--enroll", help="Save --support's classes beside the model.")] = False,
    classes: Annotated[Path | None, typer.Option(help="Zero-shot classes: a .csv of class embeddings.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to show per example.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="Threads, 0 for one per core.")] = 0,
    runtime: Annotated[str, typer.Option(help="onnxruntime or openvino.  [default: what it was exported for]")] = "",
    out: Annotated[Path | None, typer.Option(help="Also write a table (.csv).")] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Predict images, texts or vectors with an exported model, without torch."""
    from effxfer.benchmark.untrusted.sandbox import call_in_sandbox
    from effxfer.benchmark.untrusted.vet import has_valid_seal, is_untrusted, locate, note_unverified
    from effxfer.cli import prediction_table
    from effxfer.cli import show as printing
    from effxfer.errors import DataError, ModelFileError, SettingsError, error_of_code
    from effxfer.runtime.class_tables.class_table_error import ClassTableError
    from effxfer.runtime.images.preprocess import ImageError
    from effxfer.runtime.model import ModelError
    from effxfer.runtime.predict import predict_files
    from effxfer.runtime.text.errors import TextError
    from effxfer.runtime.vectors.vector_error import VectorError
    from effxfer.stages.runner.output_dir import check_file

    check_file(out)
    if support and classes:
        raise SettingsError("support and classes are two ways to name other classes", "give one of them")
    file, arguments = locate(model), predict_arguments(files, text, pair, text_file, may_be_none=enroll)
    # Labels and preprocessing are those of the file that was exported, not of one that another tool made of it.
    has_valid_seal(file)
    arguments |= {"file": str(file), "top": top, "threads": threads, "runtime": runtime or _runtime_of(file)}
    arguments |= {"support": str(support) if support else None, "classes": str(classes) if classes else None}
    try:
        if enroll:
            printing.say(f"wrote {_enroll(file, support)}")
        if is_untrusted(file):
            examples = len(arguments["images"]) + len(arguments["texts"])
            rows = call_in_sandbox(
                "effxfer.runtime.predict:predict_files",
                [file],
                arguments,
                seconds=2.0 * examples + 600 * bool(text_file),
            )
            for note in note_unverified([file]):
                printing.say(f"note: {note}")
        else:
            rows = predict_files(**arguments)
    except ModelError as error:
        raise ModelFileError(error.problem, error.hint, code=error.code) from None
    except (ImageError, ClassTableError) as error:
        raise DataError(error.problem, error.hint, code=error.code) from None
    except (TextError, VectorError) as error:
        raise error_of_code(error.problem, error.hint, error.code) from None
    prediction_table.show(rows, out, as_json=as_json)
    prediction_table.require_all(rows)


def _runtime_of(file: Path) -> str:
    """Return the runtime that a file was exported for, which the manifest beside it says."""
    from effxfer.artifact import MANIFEST, read_manifest
    from effxfer.runtime.session import ONNXRUNTIME

    settings = read_manifest(file.parent)["settings"] if (file.parent / MANIFEST).is_file() else {}
    return str(settings.get("runtime", ONNXRUNTIME))


def _enroll(file: Path, support: Path | None) -> Path:
    """Save the classes of a folder beside a model of our own.

    Raises:
        SettingsError: If there is no folder, or the model belongs to no result, so that it may write nothing.
    """
    from effxfer.benchmark.untrusted.vet import is_untrusted
    from effxfer.errors import SettingsError
    from effxfer.runtime.few_shot.support import enroll
    from effxfer.runtime.model import Model

    if not support:
        raise SettingsError("enroll saves the classes of a folder, and none is given", "give support, too")
    if is_untrusted(file):
        text = f"{file} belongs to no result, so that it runs where it can write nothing"
        raise SettingsError(text, "enroll with an exported result, or with `python -m effxfer.runtime`")
    return enroll(Model(file), support)


def predict_arguments(
    files: Sequence[Path] | None,
    texts: Sequence[str] | None,
    second_texts: Sequence[str] | None,
    text_file: Path | None,
    *,
    may_be_none: bool = False,
) -> dict[str, Any]:
    """Return the examples among the arguments of `predict_files`, as JSON values.

    Raises:
        SettingsError: If there are none and must be, or not as many first as second texts of pairs.
    """
    from effxfer.errors import SettingsError

    files, texts, seconds = list(files or ()), list(texts or ()), list(second_texts or ())
    if not (files or texts or text_file or may_be_none):
        raise SettingsError("nothing to predict", "name image files, or give text or text_file")
    if seconds and len(seconds) != len(texts):
        raise SettingsError(
            f"{len(texts)} first and {len(seconds)} second texts make no pairs", "give a pair for each text"
        )
    pairs = [list(pair) for pair in zip(texts, seconds, strict=True)] if seconds else texts
    lines = str(text_file) if text_file else None
    return {"images": [str(file) for file in files], "texts": pairs, "text_file": lines}
