"""The arguments of each edit of a network's architecture, as `effxfer.net.edits` takes them."""

from typing import Annotated, Any

from pydantic import Field, create_model

from effxfer.documents.fields import Count, Name, Names, Number, Shape, Table, Width
from effxfer.settings import Settings


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
    """Arguments of the edit `set_head`."""

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
