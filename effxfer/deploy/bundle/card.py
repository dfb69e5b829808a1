"""The model card of a bundle: a README with the metadata of Hugging Face (https://huggingface.co/docs/hub/model-cards)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from effxfer import __version__
from effxfer.benchmark.measure.serving import SERVED_BY
from effxfer.benchmark.report import MACHINE
from effxfer.deploy.bundle.markdown import Markdown, escape, format_code, quote_string
from effxfer.deploy.bundle.page import WEB, Page
from effxfer.report import Report, Table, cell
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.model_file.metadata import Metadata
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.openvino.openvino_session import openvino_version
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.registry import METRICS
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.outputs.span import Span
from effxfer.runtime.session import ONNXRUNTIME, OPENVINO, ort_version
from effxfer.runtime.softmax import sigmoid

KIND_DECISIONS = {
    "multi": "of its own", "single": "the largest of the output", "tags": "the largest of each word",
    "value": "as it is",
}  # fmt: skip
SHOWN = 10  # chosen: names in the card's sentence and table; all of them are in labels.txt
UNKNOWN = "unknown"
# By the kind of label, else by that of input. Hugging Face has no task for values of images or texts.
TASKS = {
    "image": "image-classification", "span": "question-answering", "tags": "token-classification",
    "text": "text-classification", "value": "other",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The origin of the models.

    Attributes:
        title: Title of page and card.
        backbone: Name of the pretrained network.
        backbone_license: License of its weights.
        data: Name of the data.
        data_license: License of the data.
        runtime: What runs the models, see `effxfer.runtime.model.Model`.
    """

    title: str
    backbone: str
    backbone_license: str = UNKNOWN
    data: str
    data_license: str = UNKNOWN
    runtime: str = ONNXRUNTIME


def card(
    metadata: Metadata, models: Sequence[Any], origin: Origin, accuracy: Report, speed: Report, page: Page
) -> str:  # fmt: skip
    """Return the text of the model card.

    Args:
        metadata: Those of the first file.
        models: The interface of each file.
        origin: Network and data that they were made from.
        accuracy: Rows `METRIC/SPLIT/PRECISION`.
        speed: Latency and size of the files.
        page: The web page.
    """
    input, output = metadata.input, metadata.output
    outputs = output.outputs if isinstance(output, TaskOutputs) else {}
    runs_in = openvino_version() if origin.runtime == OPENVINO else ort_version()
    tasks = [(name, each.kind, each.width, _first_names(each)) for name, each in outputs.items()]
    return render(
        "card.md", **asdict(origin), runs_in=runs_in, models=models, labels=output.classes, tasks=tasks,
        kind=input.kind, answer=output.kind, tagged="tags" in (output.kind, *(each.kind for each in outputs.values())),
        task=TASKS.get(output.kind, TASKS[input.kind]), metric=accuracy.metric, key=metadata.key,
        version=__version__, page=page, input=input, shown=_first_names(output), decisions=_decisions(output, metadata),
        short=short_side(input) if isinstance(input, Preprocess) else 0, accuracy=_accuracies(accuracy),
        results=_results(accuracy), table=markdown(speed.tables[0]), served=_serving_table(speed),
        machine=_machine(speed), notes=speed.notes, warnings=_warnings(origin),
        tables=[(table.title, markdown(table)) for table in accuracy.tables if _is_by_class(table)],
    )  # fmt: skip


def short_side(preprocess: Preprocess) -> int:
    """Return the shorter side of an image before the centre crop, in pixels."""
    # Rounded down, as timm does it.
    return math.floor(preprocess.size / preprocess.crop_pct)


def markdown(table: Table) -> Markdown:
    """Format a table in Markdown."""
    columns = [name for name in table.rows[0] if any(row[name] is not None for row in table.rows)]
    lines = [columns, *([cell(row[name]) for name in columns] for row in table.rows)]
    head, *body = (f"| {' | '.join(map(escape, line))} |" for line in lines)
    return Markdown("\n".join([head, "|" + " --- |" * len(columns), *body]))


def render(template: str, **values: Any) -> str:
    """Render a template; all values are escaped, unless `format_code` or `quote_string` produced them."""
    from jinja2 import Environment, StrictUndefined

    # StrictUndefined: a misspelt name in a template would be an empty text otherwise.
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    environment = Environment(undefined=StrictUndefined, autoescape=False, finalize=escape, **options)
    text = (WEB / template).read_text(encoding="utf-8")
    return environment.from_string(text).render(**values, code=format_code, codes=_codes, quoted=quote_string)


def _codes(names: str | Sequence[str]) -> Markdown:
    return Markdown(", ".join(map(format_code, [names] if isinstance(names, str) else names)))


def _first_names(output: Output) -> str:
    labels = output.classes
    return ", ".join(labels[:SHOWN]) + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")


def _decisions(output: Output, metadata: Metadata) -> Markdown | None:
    """Return a table of what turns the first outputs into labels or values; None for single labels."""
    rows: list[dict[str, Any]] = []
    if isinstance(output, MultiLabel):
        limits = output.limits if metadata.with_preprocessing else sigmoid(output.limits)
        for name, limit in zip(output.classes, limits.tolist(), strict=True):
            rows.append({"label": name, "applies above a probability of": round(limit, 4)})
    if isinstance(output, TaskOutputs):
        rows = [row for name, each in output.outputs.items() for row in _task_decisions(name, each, metadata)]
    if isinstance(output, Span) and output.threshold:
        rows = [{"a question is answered": "if the best span's logits exceed those of no answer by",
                 "margin": output.threshold[0]}]  # fmt: skip
    if isinstance(output, Regression):
        numbers = zip(output.classes, output.mean, output.deviation, strict=True)
        rows = [{"value": name, "mean of training": m, "standard deviation": d} for name, m, d in numbers]
    return markdown(Table(title="", rows=tuple(rows[:SHOWN]))) if rows else None


def _task_decisions(task: str, output: Output, metadata: Metadata) -> Iterator[dict[str, Any]]:
    """Yield what turns the outputs of one of several tasks into answers: the largest class, a threshold or a unit."""
    limits = [""] * output.width
    if isinstance(output, MultiLabel):
        numbers = output.limits if metadata.with_preprocessing else sigmoid(output.limits)
        limits = [f"above a probability of {limit:.4f}" for limit in numbers.tolist()]
    if isinstance(output, Regression) and not metadata.with_preprocessing:
        pairs = zip(output.mean, output.deviation, strict=True)
        limits = [f"times {deviation:.6g}, plus {mean:.6g}" for mean, deviation in pairs]
    for column, (name, limit) in enumerate(zip(output.classes, limits, strict=True)):
        yield {"output": task, "column": column, "name": name, "decision": limit or KIND_DECISIONS[output.kind]}


def _accuracies(report: Report) -> list[str]:
    return [f"{row.name}: {row}" for row in report.rows if _is_score(report, row.name)]


def _is_score(report: Report, name: str) -> bool:
    """Whether a row is the main metric, or another one of predictions, such as a mean absolute error."""
    metrics = METRICS if report.metric == TaskOutputs.metric else (report.metric,)
    return name.startswith(
        (
            *(f"{metric}/" for metric in metrics),
            "calibration error/",
            "exact match/",
            "macro F1/",
            "mean absolute error",
            "precision/",
            "recall/",
            "worst class/",
        )
    )


def _is_by_class(table: Table) -> bool:
    """Whether a table belongs into the card: right and wrong decisions, but no names of the data's files."""
    return bool(table.rows) and table.title.startswith(("Accuracy by class", "Confusions of"))


def _results(report: Report) -> list[dict[str, Any]]:
    rows = []
    for row in report.rows:
        quantity, _, tail = row.name.partition("/")
        split, _, precision = tail.partition("/")
        if quantity == report.metric and precision in ("fp32", "int8"):
            rows.append({"split": split, "file": precision, "value": round(row.value, 2)})
    return rows


def _serving_table(speed: Report) -> Markdown | None:
    """Return the table of `serving_report`, if it was measured."""
    tables = [table for table in speed.tables if table.rows and SERVED_BY in table.rows[0]]
    return markdown(tables[0]) if tables else None


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
