"""What manifests, tickets and adapters may say: one strict model for every document that is read.

A seal finds damage; that a document with a good seal makes sense is checked here, before anything acts on it.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from effxfer.net.settings import BackboneSettings
from effxfer.runtime.model_file.strict import preprocess
from effxfer.settings import Settings

DEEPEST = 32
LONGEST = 10_000
MOST = 100_000
LARGEST = 2**40
Name = Annotated[str, Field(max_length=1000)]
Names = Annotated[list[Name], Field(max_length=MOST)]
Text = Annotated[str, Field(max_length=LONGEST)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Width = Annotated[int, Field(ge=1, le=2**20)]
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
Shape = Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(max_length=8)]
Table = dict[Name, Any]


def _seen(table: dict[str, Any]) -> dict[str, Any]:
    if "size" not in table:
        raise ValueError("it has no field 'size'")
    preprocess(table)
    return table


Input = Annotated[Table, AfterValidator(_seen)]


class Loose(BaseModel):
    """A document to which other versions may add fields, and in which a measurement may be no number."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")


class Body(Settings):
    """A body before its edits."""

    source: Text = Field(min_length=1)
    args: Table


class Site(Settings):
    """Where a bottleneck hangs."""

    inputs: Width
    outputs: Width
    maps: bool
    stride: int = Field(ge=1, le=64)


class Edit(Settings):
    """A change of the architecture; what else it says depends on its kind."""

    kind: Name


def _edit(kind: str, **fields: Any) -> type[Edit]:
    """Make the model of one kind of edit; all that it says is required."""
    told: dict[str, Any] = {name: (field, ...) for name, field in fields.items()}
    return create_model(kind, __base__=Edit, **told)


class SetHead(Edit):
    """As `edits.set_head` takes it."""

    spec: Table
    features: Width | Annotated[list[Width], Field(max_length=64)]
    classes: Names
    taps: Names = Field(default=["out"])


Sizes = dict[Name, dict[Name, int | float | Annotated[list[int], Field(max_length=64)]]]
EDITS: dict[str, type[Edit]] = {
    "add_bias": _edit("add_bias", layers=Names),
    "cut": _edit("cut", gone=Names),
    "densify": _edit("densify", weights=Names),
    "grey": _edit("grey"),
    "houlsby": _edit("houlsby", sites=dict[Name, Site], rank=Width),
    "ia3": _edit("ia3", outputs=dict[Name, Count], inputs=Names),
    "lora": _edit("lora", weights=Names, rank=Width, alpha=Number),
    "parallel_adapter": _edit("parallel_adapter", sites=dict[Name, Site], rank=Width, scale=Number),
    "prompts": _edit("prompts", blocks=Names, count=Width, width=Width, deep=bool),
    "remove_blocks": _edit("remove_blocks", names=Names),
    "resize": _edit("resize", shapes=dict[Name, Shape], sizes=Sizes),
    "set_head": SetHead,
    "sparsify": _edit("sparsify", weights=Names),
    "ssf": _edit("ssf", layers=Names),
}
Edits = Annotated[list[Table], Field(max_length=1000)]


class Row(Loose):
    """As `Measurement`."""

    model_config = ConfigDict(extra="forbid")
    name: Text
    value: float
    unit: Text = ""
    low: float = 0.0
    high: float = 0.0
    n: int | float = 1
    of: Text = ""


class Cells(Loose):
    """As `report.Table`."""

    model_config = ConfigDict(extra="forbid")
    title: Text
    rows: list[dict[Text, str | int | float | bool | None]]


class Line(Loose):
    """As `Curve`."""

    model_config = ConfigDict(extra="forbid")
    title: Text
    name: Text
    x: Text
    y: Text
    points: list[tuple[float, float]]
    line: bool = True


class Measured(Loose):
    """As `Report`."""

    model_config = ConfigDict(extra="forbid")
    rows: list[Row]
    notes: list[Text]
    tables: list[Cells]
    curves: list[Line]


class Seen(Loose):
    """A task that a model was trained on."""

    name: Text
    digest: Text
    settings: Table


class ManifestDocument(Settings):
    """As `Manifest`."""

    key: Name
    stage: Name
    settings: Table
    parent: Any
    backbone: Body
    edits: Edits
    preprocess: Input
    classes: Names
    data: list[Seen] = Field(default=[], max_length=1000)
    report: Measured
    files: dict[Name, Digest] = Field(max_length=MOST)
    versions: dict[Name, Text] = Field(default={})
    smoothing: float = Field(default=0.0, ge=0, le=1)
    version: int = Field(alias="schema")


class Recipe(Loose):
    """How a stage trained: what of its settings is read."""

    strategy: Name
    options: Table
    fit: Table


class Found(Settings):
    """The stage that found a ticket."""

    stage: Name
    settings: Recipe


class Origin(Loose):
    """Where a ticket or an adapter came from."""

    key: Name = ""
    data: list[Table] = Field(default=[], max_length=1000)
    reached: dict[Name, Number] = Field(default={})
    versions: dict[Name, Text] = Field(default={})


class TicketDocument(Settings):
    """As `ticket.Facts`."""

    backbone: Body
    edits: Edits
    preprocess: Input
    shapes: dict[Name, Shape] = Field(max_length=MOST)
    kept: Count
    masked: Count
    everything: Count
    rewind: Text
    masks: Digest
    weights: Digest
    recipe: Found
    origin: Origin
    pointer: BackboneSettings | None = None
    version: int = Field(alias="schema")


class AdapterDocument(Settings):
    """As `adapter_file.Facts`."""

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


def fault(cls: type[BaseModel], document: Mapping[str, Any]) -> str:
    """Say what is wrong with a document, or nothing: the first field that its model does not allow, and why."""
    if _depth_exceeds(document):
        return f"it is nested deeper than {DEEPEST}"
    try:
        json.dumps({name: value for name, value in document.items() if name != "report"}, allow_nan=False)
    except ValueError:
        return "a number in it is not finite"
    found = _mistake(cls, document)
    for number, edit in enumerate(document["edits"] if not found else ()):
        if found:
            break
        kind = edit.get("kind")
        known = EDITS.get(kind) if isinstance(kind, str) else None
        found = (
            _mistake(known, edit, f"edits.{number}.") if known else f"field edits.{number}.kind: no edit {kind!r:.40}"
        )
    return found


def _mistake(cls: type[BaseModel], document: Mapping[str, Any], place: str = "") -> str:
    try:
        cls.model_validate_json(json.dumps(document))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = place + ".".join(str(part) for part in first["loc"])
        given = "" if first["type"] == "missing" else f", not {first['input']!r:.40}"
        return f"field {path:.200}: {first['msg'][:1].lower()}{first['msg'][1:]:.200}{given}"
    except (ValueError, RecursionError) as error:
        return str(error)
    return ""


def _depth_exceeds(document: object) -> bool:
    """Whether a document is nested too deeply, found without recursion."""
    level: list[Any] = [document]
    for _ in range(DEEPEST):
        level = [
            inner
            for one in level if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one) if isinstance(inner, dict | list)
        ]  # fmt: skip
    return bool(level)
