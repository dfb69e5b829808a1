"""Write a bundle: models, labels, a model card with measured figures, a Python example and a web page.

The card is a README with the metadata of Hugging Face (https://huggingface.co/docs/hub/model-cards).
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from effxfer import __version__
from effxfer.benchmark.report import MACHINE
from effxfer.benchmark.untrusted.vet import SUMS
from effxfer.deploy.bundle.markdown import Markdown, escape, format_code, quote_string
from effxfer.deploy.bundle.ort_web import OrtWeb
from effxfer.deploy.bundle.runtime_copy import copy_runtime
from effxfer.deploy.export.onnx import load, read_metadata
from effxfer.deploy.export.preprocessing import tall_first
from effxfer.files import sha256
from effxfer.report import Report, Table, cell
from effxfer.runtime.images.preprocess import Preprocess

WEB = Path(__file__).with_name("web")
PAGE = ("index.html", "app.js", "preprocess.js")
SHOWN = 10  # chosen: class names in the card's sentence; all of them are in labels.txt
UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The origin of the models.

    Attributes:
        title: Title of page and card.
        backbone: Name of the pretrained network.
        backbone_license: License of its weights.
        data: Name of the data.
        data_license: License of the data.
    """

    title: str
    backbone: str
    backbone_license: str = UNKNOWN
    data: str
    data_license: str = UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Model:
    """The interface of an exported file.

    Attributes:
        file: Its file name.
        title: `float32`, or `int8` with its recipe.
        input: Name of the input.
        output: Name of the output.
        resizes: Whether it maps uint8 `(1, H, W, 3)` of any size to probabilities; else float32 `(N, 3, S, S)` to
            logits.
        takes: The input in words.
    """

    file: str
    title: str
    input: str
    output: str
    resizes: bool
    takes: str


def write_bundle(
    folder: Path, files: Sequence[Path], *, origin: Origin, accuracy: Report, speed: Report, web: OrtWeb
) -> Path:
    """Write a bundle.

    Args:
        folder: Output folder; it must not exist.
        files: Exported models of the same network; the example uses the first.
        origin: Network and data that they were made from.
        accuracy: Rows `accuracy/SPLIT/PRECISION`.
        speed: Report of `bench_models` on these files.
        web: ONNX Runtime Web.

    Returns:
        `folder`.
    """
    folder.mkdir(parents=True)
    models, metadata = [describe_model(file) for file in files], read_metadata(files[0])
    facts = {
        "title": origin.title, "labels": list(metadata.labels), "preprocess": metadata.input.to_json(),
        "tall_first": tall_first(), "models": [asdict(model) for model in models],
    }  # fmt: skip
    for file in files:
        shutil.copyfile(file, folder / file.name)
    for name in PAGE:
        shutil.copyfile(WEB / name, folder / name)
    (folder / "ort").mkdir()
    for name, content in web.files.items():
        (folder / "ort" / name).write_bytes(content)
    copy_runtime(folder)
    texts = {
        "labels.txt": "\n".join(map(one_line, metadata.labels)) + "\n",
        "model.json": json.dumps(facts, indent=1, ensure_ascii=False) + "\n",
        "example.py": _render("example.py.txt", model=models[0]),
        "README.md": card(facts, origin, metadata.key, accuracy, speed, web.version),
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
    title = "float32" if metadata.precision == "fp32" else f"int8 ({metadata.precision})"
    return Model(
        file=file.name, title=title, input=tensor.name, output=graph.output[0].name, resizes=resizes, takes=takes,
    )  # fmt: skip


def one_line(label: str) -> str:
    """Escape the line breaks of a label; the exact labels are in `model.json`."""
    return label.replace("\r", "\\r").replace("\n", "\\n")


def short_side(preprocess: Preprocess) -> int:
    """Return the shorter side of an image before the centre crop, in pixels."""
    # Rounded down, as timm does it.
    return math.floor(preprocess.size / preprocess.crop_pct)


def card(
    facts: Mapping[str, Any], origin: Origin, key: str, accuracy: Report, speed: Report, web_version: str
) -> str:  # fmt: skip
    """Return the text of the model card."""
    labels, preprocess = facts["labels"], Preprocess.from_json(facts["preprocess"])
    shown = ", ".join(labels[:SHOWN]) + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")
    return _render(
        "card.md", **{**facts, **asdict(origin)}, key=key, version=__version__, web_version=web_version, shown=shown,
        short=short_side(preprocess), accuracy=_accuracies(accuracy), results=_results(accuracy),
        table=markdown(speed.tables[0]), machine=_machine(speed), notes=speed.notes, warnings=_warnings(origin),
    )  # fmt: skip


def markdown(table: Table) -> Markdown:
    """Format a table in Markdown."""
    columns = [name for name in table.rows[0] if any(row[name] is not None for row in table.rows)]
    lines = [columns, *([cell(row[name]) for name in columns] for row in table.rows)]
    head, *body = (f"| {' | '.join(map(escape, line))} |" for line in lines)
    return Markdown("\n".join([head, "|" + " --- |" * len(columns), *body]))


def _render(template: str, **values: Any) -> str:
    """Render a template; all values are escaped, unless `format_code` or `quote_string` produced them."""
    from jinja2 import Environment, StrictUndefined

    # StrictUndefined: a misspelt name in a template would be an empty text otherwise.
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    environment = Environment(undefined=StrictUndefined, autoescape=False, finalize=escape, **options)
    text = (WEB / template).read_text(encoding="utf-8")
    return environment.from_string(text).render(**values, code=format_code, quoted=quote_string)


def _accuracies(report: Report) -> list[str]:
    return [f"{row.name}: {row}" for row in report.scores]


def _results(report: Report) -> list[dict[str, Any]]:
    rows = []
    for row in report.rows:
        quantity, _, tail = row.name.partition("/")
        split, _, precision = tail.partition("/")
        if quantity == report.metric and precision in ("fp32", "int8"):
            rows.append({"split": split, "file": precision, "value": round(row.value, 2)})
    return rows


def _machine(speed: Report) -> str:
    rows = next((table.rows for table in speed.tables if table.title == MACHINE), ())
    return "; ".join(f"{row['fact']} {row['found']}" for row in rows) or UNKNOWN


def _warnings(origin: Origin) -> list[str]:
    licenses = (("backbone", origin.backbone_license), ("data", origin.data_license))
    unknown = [
        f"the licence of the {subject} is unknown: look it up before you publish"
        for subject, name in licenses
        if name == UNKNOWN
    ]
    return unknown + [
        f"the licence of the {subject} ({name}) does not allow commercial use"
        for subject, name in licenses
        if set(name.lower().replace("_", "-").split("-")) & {"nc"} or "non-commercial" in name.lower()
    ]
