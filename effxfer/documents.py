"""Strict models of the documents in manifests, tickets and adapters.

A seal detects damage; these models check that a document with a valid seal makes sense, before anything uses it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from effxfer.net.settings import BackboneSettings
from effxfer.runtime.model_file.strict import preprocess
from effxfer.runtime.text.fields import tokens
from effxfer.runtime.vectors.vectors import Vectors
from effxfer.settings import Settings

# Real documents go 6 deep; json and pydantic recurse, and Python stops them near 1,000.
MAX_DEPTH = 32
# Chosen: a note is a sentence or two. Beyond, a document is damage, and reports would print it.
MAX_TEXT = 10_000
# Several times the 21,841 classes of ImageNet-21k.
MAX_NAMES = 100_000
# Weights of that number would take 4 TB.
MAX_COUNT = 2**40
LONGEST_NAME = 1000
Name = Annotated[str, Field(max_length=LONGEST_NAME)]
Names = Annotated[list[Name], Field(max_length=MAX_NAMES)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
# The widest layers are classifiers and vocabularies: ImageNet-21k has 21,841, multilingual ones 250,000.
Width = Annotated[int, Field(ge=1, le=2**20)]
# Chosen: far beyond any scale, and the square is still finite in float64 (1.8e308).
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
# Weights have at most 5 dimensions (convolutions over time), none of them near 2^31.
Shape = Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(max_length=8)]
Table = dict[Name, Any]


def _check_input(table: dict[str, Any]) -> dict[str, Any]:
    if "size" not in table:
        raise ValueError("it has no field 'size'")
    kind = table.get("kind")
    check: Callable[[Any], Any] = preprocess
    if kind in ("text", "vector"):
        check = tokens if kind == "text" else Vectors.from_json
    check(table)
    return table


Input = Annotated[Table, AfterValidator(_check_input)]


class Loose(BaseModel):
    """A document that may have additional fields of other versions, and NaN among its measurements."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")


class Body(Settings):
    """A backbone before its edits."""

    source: Text = Field(min_length=1)
    args: Table


class Site(Settings):
    """The site of a bottleneck adapter."""

    inputs: Width
    outputs: Width
    maps: bool
    # Strides of patch embeddings are 4 to 32.
    stride: int = Field(ge=1, le=64)


class Edit(Settings):
    """A change of the architecture; further fields depend on its kind."""

    kind: Name


def _edit(kind: str, **fields: Any) -> type[Edit]:
    """Create the model of a kind of edit; all fields are required."""
    definitions: dict[str, Any] = {name: (field, ...) for name, field in fields.items()}
    return create_model(kind, __base__=Edit, **definitions)


class SetHead(Edit):
    """Arguments of `edits.set_head`."""

    spec: Table
    features: Width | Annotated[list[Width], Field(max_length=64)]
    classes: Names
    taps: Names = Field(default=["out"])
    output: Table | None = None
    embeddings: Count = 0


Sizes = dict[Name, dict[Name, int | float | Annotated[list[int], Field(max_length=64)]]]
EDITS: dict[str, type[Edit]] = {
    "add_bias": _edit("add_bias", layers=Names),
    "cross_stitch": _edit(
        "cross_stitch",
        tasks=Annotated[int, Field(ge=2, le=64)],
        stages=Names,
        start=Annotated[float, Field(ge=0, le=1)],
    ),
    "cut": _edit("cut", gone=Names),
    "densify": _edit("densify", weights=Names),
    "factorize": _edit("factorize", ranks=dict[Name, Width]),
    "grey": _edit("grey"),
    "grow_head": _edit("grow_head", classes=Names),
    "houlsby": _edit("houlsby", sites=dict[Name, Site], rank=Width),
    "ia3": _edit("ia3", outputs=dict[Name, Count], inputs=Names),
    "keep_tasks": _edit("keep_tasks", tasks=Names),
    "lora": _edit("lora", weights=Names, rank=Width, alpha=Number),
    "parallel_adapter": _edit("parallel_adapter", sites=dict[Name, Site], rank=Width, scale=Number),
    "prompts": _edit("prompts", blocks=Names, count=Width, width=Width, deep=bool),
    "prune_vocabulary": _edit("prune_vocabulary", tokens=Width, pad=Count, separator=Annotated[int, Field(ge=-1)]),
    "remove_blocks": _edit("remove_blocks", names=Names),
    "resize": _edit("resize", shapes=dict[Name, Shape], sizes=Sizes),
    "set_head": SetHead,
    "set_masked_head": _edit("set_masked_head"),
    "set_output": _edit("set_output", output=Table),
    "sparsify": _edit("sparsify", weights=Names),
    "ssf": _edit("ssf", layers=Names),
}
# A network has about one edit for each stage and adapter.
Edits = Annotated[list[Table], Field(max_length=1000)]


class Row(Loose):
    """A serialized `Measurement`."""

    model_config = ConfigDict(extra="forbid")
    name: Text
    value: float
    unit: Text = ""
    low: float = 0.0
    high: float = 0.0
    n: int | float = 1
    of: Text = ""


class Cells(Loose):
    """A serialized `report.Table`."""

    model_config = ConfigDict(extra="forbid")
    title: Text
    rows: list[dict[Text, str | int | float | bool | None]]


class Line(Loose):
    """A serialized `Curve`."""

    model_config = ConfigDict(extra="forbid")
    title: Text
    name: Text
    x: Text
    y: Text
    points: list[tuple[float, float]]
    line: bool = True
    labels: list[str] = []


class ReportDocument(Loose):
    """A serialized `Report`."""

    model_config = ConfigDict(extra="forbid")
    rows: list[Row]
    notes: list[Text]
    tables: list[Cells]
    curves: list[Line]


class TaskRecord(Loose):
    """A task that a model was trained on."""

    name: Text
    digest: Text
    settings: Table


class ManifestDocument(Settings):
    """A serialized `Manifest`."""

    key: Name
    stage: Name
    settings: Table
    parent: Any
    backbone: Body
    edits: Edits
    preprocess: Input
    classes: Names
    data: list[TaskRecord] = Field(default=[], max_length=1000)
    report: ReportDocument
    files: dict[Name, Digest] = Field(max_length=MAX_NAMES)
    versions: dict[Name, Text] = Field(default={})
    smoothing: float = Field(default=0.0, ge=0, le=1)
    version: int = Field(alias="schema")


class Recipe(Loose):
    """The recipe of a training: the settings that are read."""

    strategy: Name
    options: Table
    fit: Table


class TicketRecipe(Settings):
    """The stage that found a ticket, with its settings."""

    stage: Name
    settings: Recipe


class Origin(Loose):
    """The origin of a ticket or an adapter."""

    key: Name = ""
    data: list[Table] = Field(default=[], max_length=1000)
    reached: dict[Name, Number] = Field(default={})
    versions: dict[Name, Text] = Field(default={})


class TicketDocument(Settings):
    """Serialized `Facts` of a ticket."""

    backbone: Body
    edits: Edits
    preprocess: Input
    shapes: dict[Name, Shape] = Field(max_length=MAX_NAMES)
    kept: Count
    masked: Count
    everything: Count
    rewind: Text
    masks: Digest
    weights: Digest
    recipe: TicketRecipe
    origin: Origin
    pointer: BackboneSettings | None = None
    version: int = Field(alias="schema")


class LearnedTask(Loose):
    """A task of a memory."""

    name: Text
    digest: Text
    classes: Names
    reached: dict[Name, Number] = Field(default={})


class MemoryDocument(Settings):
    """Serialized `memory_file.Facts`."""

    backbone: Body
    preprocess: Input
    tasks: list[LearnedTask] = Field(max_length=1000)
    facts: Table
    tensors: Digest
    version: int = Field(alias="schema")


class AdapterDocument(Settings):
    """Serialized `adapter_file.Facts`."""

    strategy: Name
    base: Name
    backbone: Body
    edits: Edits
    preprocess: Input
    classes: Names
    smoothing: float = Field(ge=0, le=1)
    trained: Count
    everything: Count
    tensors: Digest
    recipe: Table
    origin: Origin
    version: int = Field(alias="schema")


def find_mistake(cls: type[BaseModel], document: Mapping[str, Any]) -> str:
    """Describe the first invalid field of a document; empty if it is valid."""
    # First of all: everything below recurses.
    if _depth_exceeds(document):
        return f"it is nested deeper than {MAX_DEPTH}"
    try:
        # A report may hold NaN, of a measurement that failed; nothing else may.
        json.dumps({name: value for name, value in document.items() if name != "report"}, allow_nan=False)
    except ValueError:
        return "a number in it is not finite"
    # The whole first: what edits are is only known of a document whose list of edits is one.
    mistake = _mistake(cls, document)
    for number, edit in enumerate(document.get("edits", ()) if not mistake else ()):
        if mistake:
            break
        kind = edit.get("kind")
        model = EDITS.get(kind) if isinstance(kind, str) else None
        mistake = (
            _mistake(model, edit, f"edits.{number}.") if model else f"field edits.{number}.kind: no edit {kind!r:.40}"
        )
    return mistake


def _mistake(cls: type[BaseModel], document: Mapping[str, Any], place: str = "") -> str:
    try:
        # From JSON text: strict pydantic would refuse a list for a tuple, which JSON does not have.
        cls.model_validate_json(json.dumps(document))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = place + ".".join(str(part) for part in first["loc"])
        actual = "" if first["type"] == "missing" else f", not {first['input']!r:.40}"
        return f"field {path:.200}: {first['msg'][:1].lower()}{first['msg'][1:]:.200}{actual}"
    except (ValueError, RecursionError) as error:
        return str(error)
    return ""


def _depth_exceeds(document: object) -> bool:
    """Whether a document is nested too deeply, checked without recursion."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for one in level if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one) if isinstance(inner, dict | list)
        ]  # fmt: skip
    return bool(level)
