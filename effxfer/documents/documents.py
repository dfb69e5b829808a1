"""The documents of manifests, tickets, memories and adapters."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from effxfer.documents.edit_documents import Edits
from effxfer.documents.fields import MAX_NAMES, Count, Digest, Name, Names, Number, Shape, Table, Text
from effxfer.net.settings import BackboneSettings
from effxfer.runtime.model_file.strict import preprocess
from effxfer.runtime.text.fields import tokens
from effxfer.runtime.vectors.vectors import Vectors
from effxfer.settings import Settings


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
