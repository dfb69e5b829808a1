"""Build checked, frozen settings models from tables of plain values; all mistakes are reported at once."""

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from effxfer.errors import SettingsError, did_you_mean, join_sentences, shorten


class Settings(BaseModel):
    """Base of every settings model: frozen, strict, without unknown keys, and without NaN or infinity."""

    # Unknown keys are an error: silently ignored ones are the commonest complaint about trainers (unsloth #10452).
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    def plain(self) -> dict[str, Any]:
        """Return the values as JSON types, defaults included: the form in keys and manifests."""
        result: dict[str, Any] = self.model_dump(mode="json")
        return result


S = TypeVar("S", bound=BaseModel)


def build(cls: type[S], table: Mapping[str, Any], context: str) -> S:
    """Build a `cls` from `table`.

    Args:
        cls: A settings model.
        table: Values by field name, from a TOML table or a command line. A list fits a tuple, a string a path, and an
            integer a float; nothing else is converted. A table in it keeps the other defaults of its place:
            `{"fit": {"lr": 0.1}}` leaves `fit.epochs` at the default of `cls`, not of `FitSettings`.
        context: Name of the table in errors.

    Raises:
        SettingsError: With every unknown, missing, mistyped and out-of-range setting of the table.
    """
    mistakes = problems(cls, table)
    if mistakes:
        names = ", ".join(cls.model_fields)
        raise SettingsError(f"{context}: {join_sentences(mistakes)}", f"settings are: {names}", code="E201")
    # From JSON text: strict pydantic takes a list for a tuple and a text for a path only there.
    return cls.model_validate_json(_text(_with_defaults(cls, table)))


def problems(cls: type[BaseModel], table: Mapping[str, Any]) -> list[str]:
    """List the mistakes of `table`, one sentence each; an empty list means that `build` succeeds."""
    try:
        cls.model_validate_json(_text(_with_defaults(cls, table)))
    except ValidationError as error:
        return [_sentence(cls, dict(mistake)) for mistake in error.errors(include_url=False)]
    except RecursionError:
        return ["tables are nested too deeply"]
    except ValueError:  # Python writes at most 4300 digits
        return ["an integer has too many digits"]
    # `allow_inf_nan` reaches typed fields only; a free table may hold NaN, which no key can.
    return [f"{path} should be a finite number" for path in _non_finite(table)]


def overlay(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with some values replaced, also in nested tables.

    >>> overlay({"lr": 0.1, "augment": {"crop": "random", "flip": True}}, {"augment": {"flip": False}})
    {'lr': 0.1, 'augment': {'crop': 'random', 'flip': False}}
    """
    merged = dict(table)
    for key, value in changes.items():
        inner = merged.get(key)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        merged[key] = overlay(inner, value) if both else value  # type: ignore[arg-type]
    return merged


def _with_defaults(cls: type[BaseModel], table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Complete the tables in `table` by what the defaults of their fields set; what is no table stays as it is."""
    if not isinstance(table, Mapping):
        return table
    defaults = {name: field.default for name, field in cls.model_fields.items()}
    tables = {
        name: overlay(default.model_dump(mode="json", exclude_unset=True), table[name])
        for name, default in defaults.items()
        if isinstance(default, Settings) and isinstance(table.get(name), Mapping)
    }
    return {**table, **tables}


def _text(table: Mapping[str, Any]) -> str:
    return json.dumps(table, default=str)


def _non_finite(value: object, path: str = "") -> list[str]:
    """Return the paths of NaN and infinite numbers in fields of any type."""
    if isinstance(value, Mapping):
        return [name for key, inner in value.items() for name in _non_finite(inner, f"{path}.{key}".lstrip("."))]
    if isinstance(value, list | tuple):
        return [name for i, inner in enumerate(value) for name in _non_finite(inner, f"{path}.{i}")]
    return [path] if isinstance(value, float) and not isfinite(value) else []


def _sentence(cls: type[BaseModel], mistake: dict[str, Any]) -> str:
    path = shorten(".".join(str(part) for part in mistake["loc"]))
    if mistake["type"] == "extra_forbidden":
        known_names = _field_names(cls, mistake["loc"])
        return f"unknown setting {path!r}{did_you_mean(shorten(str(mistake['loc'][-1])), known_names)}"
    if mistake["type"] == "missing":
        return f"{path} is required"
    # Of a whole table nobody sees the mistake; a storage address may hold a password.
    passed = "" if isinstance(mistake["input"], Mapping) else f", not {shorten(hide_passwords(repr(mistake['input'])))}"
    # pydantic puts these words before what a validator of ours raised.
    text = mistake["msg"].removeprefix("Value error, ")
    return f"{path}: {text[:1].lower()}{text[1:]}{passed}" if path else text


def hide_passwords(text: str) -> str:
    """Hide the passwords of addresses.

    >>> hide_passwords("postgresql://me:secret@host/db")
    'postgresql://me:***@host/db'
    """
    text = re.sub(r"(://[^:/@\s]*):[^@\s]*@", r"\1:***@", text)
    return re.sub(r"(password=)[^&\s'\"]*", r"\1***", text)


def _field_names(cls: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    for part in (part for part in path[:-1] if isinstance(part, str)):
        field = cls.model_fields.get(part)
        inner = field.annotation if field else None
        while get_args(inner):
            inner = get_args(inner)[0]
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        cls = inner
    return list(cls.model_fields)
