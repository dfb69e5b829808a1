"""Find what is wrong with a document, in one line for a person."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from effxfer.documents.edit_documents import EDITS

# Real documents go 6 deep; json and pydantic recurse, and Python stops them near 1,000.
MAX_DEPTH = 32


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
