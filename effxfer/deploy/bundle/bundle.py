"""Write a bundle: models, labels, a model card with measured figures, a Python example and a web page."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from effxfer.benchmark.untrusted.vet import SUMS
from effxfer.deploy.bundle.card import Origin, card, render
from effxfer.deploy.bundle.page import Page, model_json, to_json_text, write_page
from effxfer.deploy.bundle.runtime_copy import copy_runtime
from effxfer.deploy.export.onnx import load, read_metadata
from effxfer.files import sha256
from effxfer.report import Report
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.text.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class Model:
    """The interface of an exported file.

    Attributes:
        file: Its file name.
        title: `float32`, or `int8` with its recipe.
        input: Name of the input.
        output: Name of the output; of several tasks a list of them.
        resizes: Whether it maps uint8 `(1, H, W, 3)` of any size to probabilities, or values in their unit; else
            float32 `(N, 3, S, S)`, or ids of texts, to logits, or standardised values.
        takes: The input in words.
    """

    file: str
    title: str
    input: str
    output: str | list[str]
    resizes: bool
    takes: str


def write_bundle(
    folder: Path, files: Sequence[Path], *, origin: Origin, accuracy: Report, speed: Report, page: Page
) -> Path:
    """Write a bundle.

    Args:
        folder: Output folder; it must not exist.
        files: Exported models of the same network; the example uses the first.
        origin: Network and data that they were made from.
        accuracy: Rows `METRIC/SPLIT/PRECISION`.
        speed: Report of `bench_models` on these files.
        page: The web page.

    Returns:
        `folder`.
    """
    folder.mkdir(parents=True)
    models, metadata = [describe_model(file) for file in files], read_metadata(files[0])
    for file in files:
        shutil.copyfile(file, folder / file.name)
    for name, content in metadata.input.files().items():
        (folder / name).write_bytes(content)
    fields = metadata.input.compiled_pattern.fields if isinstance(metadata.input, Tokens) else ()
    write_page(folder, page, metadata.input, render("index.html", fields=fields, answer=metadata.output.kind))
    copy_runtime(folder)
    texts = {
        "labels.txt": "\n".join(map(one_line, metadata.labels)) + "\n",
        "model.json": to_json_text(model_json(origin.title, metadata, models)),
        "example.py": render(
            "example.py.txt",
            runtime=origin.runtime,
            model=models[0],
            kind=metadata.input.kind,
            answer=metadata.output.kind,
            fields=fields,
        ),
        "README.md": card(metadata, models, origin, accuracy, speed, page),
    }
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode("utf-8", "backslashreplace"))  # in JSON, that is an escape
    # Last: it lists every other file.
    (folder / SUMS).write_text(sums(folder), encoding="utf-8")
    return folder


def sums(folder: Path) -> str:
    """List the digest of every file, in the format of `sha256sum --check`."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return "".join(f"{sha256(file)}  {file.relative_to(folder).as_posix()}\n" for file in files)


def describe_model(file: Path) -> Model:
    """Read the interface of an exported file."""
    graph, metadata = load(file).graph, read_metadata(file)
    tensor, size, resizes = graph.input[0], metadata.input.size, metadata.with_preprocessing
    takes = "uint8 (1, H, W, 3)" if resizes else f"float32 (N, 3, {size}, {size})"
    takes = "int64 (N, length)" if metadata.input.kind == "text" else takes
    title = "float32" if metadata.precision == "fp32" else f"int8 ({metadata.precision})"
    names = list(metadata.output.names) if isinstance(metadata.output, TaskOutputs) else graph.output[0].name
    return Model(file=file.name, title=title, input=tensor.name, output=names, resizes=resizes, takes=takes)


def one_line(label: str) -> str:
    """Escape the line breaks of a label; the exact labels are in `model.json`."""
    return label.replace("\r", "\\r").replace("\n", "\\n")
