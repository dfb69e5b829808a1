"""The settings reference, from the pydantic models and their docstrings."""

from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from griffe import Docstring, DocstringSectionKind
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from effxfer.data.settings import DataSettings
from effxfer.net.settings import BackboneSettings
from effxfer.stages import STAGES
from effxfer.stages.settings.common import Rank
from effxfer.transfer import SELF_SUPERVISED, STRATEGIES

INTRODUCTION = """# Settings

Generated from the settings models. A setting is a key of a pipeline's table, or `--set KEY=VALUE` of a command; a dot
leads into an inner table (`--set fit.epochs=3`).
"""
Model = type[BaseModel]


def page() -> str:
    """Write the page in Markdown."""
    groups: dict[str, Mapping[str, Model]] = {
        "Data and backbone": {"[data]": DataSettings, "[backbone]": BackboneSettings},
        "Stages": {f"run = {name}": stage.settings for name, stage in STAGES.items()},
        "Commands that are not stages": {"effxfer rank": Rank},
        "Strategies": {f"strategy = {name}": strategy for name, strategy in (STRATEGIES | SELF_SUPERVISED).items()},
    }
    groups["Inner tables"] = nested(model for models in groups.values() for model in models.values())
    sections = [_group(title, models) for title, models in groups.items()]
    return "\n".join([INTRODUCTION, *sections])


def nested(models: Iterable[Model]) -> dict[str, Model]:
    """Map the names of the models that fields of some models hold, at any depth, to the models."""
    inner, open_ = dict[str, Model](), list(models)
    while open_:
        for field in open_.pop().model_fields.values():
            parts = [part for part in (field.annotation, *get_args(field.annotation)) if isinstance(part, type)]
            more = {p.__name__: p for p in parts if issubclass(p, BaseModel) and p.__name__ not in inner}
            inner |= more
            open_ += more.values()
    return dict(sorted(inner.items()))


def meanings(model: Model) -> dict[str, str]:
    """Read what each field means, from the docstrings of the model and its bases."""
    texts: dict[str, str] = {}
    for base in reversed(model.__mro__):
        for section in Docstring(base.__doc__ or "", parser="google").parse() if issubclass(base, BaseModel) else ():
            if section.kind is DocstringSectionKind.attributes:
                texts |= {one.name: " ".join(one.description.split()) for one in section.value}
    return texts


def _group(title: str, models: Mapping[str, Model]) -> str:
    return "\n".join([f"## {title}\n", *(_section(name, model) for name, model in models.items())])


def _section(name: str, model: Model) -> str:
    summary = (model.__doc__ or "").partition("\n\nAttributes:")[0].partition("\n\n    Attributes:")[0]
    texts = meanings(model)
    items = [
        f"- `{key}` (`{type_text(field.annotation)}`{_default(field)}): {texts.get(key, '')}"
        for key, field in model.model_fields.items()
    ]
    return "\n".join([f"### {name}\n", " ".join(summary.split()) + "\n", *items, ""])


def type_text(annotation: Any) -> str:
    """Write a type as Python reads it, without constraints.

    >>> type_text(Literal["a", "b"] | None), type_text(tuple[int, ...])
    ("'a' | 'b' | None", 'tuple[int, ...]')
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(repr, parts))
    if origin is Annotated:
        return type_text(parts[0])
    if origin in (Union, UnionType):
        return " | ".join(map(type_text, parts))
    if origin:
        return f"{origin.__name__}[{', '.join(map(type_text, parts))}]"
    special = {Ellipsis: "...", NoneType: "None"}
    return special.get(annotation) or str(annotation.__name__)


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ", required"
    return f", default `{'its own defaults' if isinstance(value, BaseModel) else value!r}`"
