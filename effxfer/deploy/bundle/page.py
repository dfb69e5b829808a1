"""The web page of a bundle: its files, and what its scripts read in `model.json`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from effxfer.deploy.bundle.web_library import WebFiles
from effxfer.deploy.export.preprocessing import tall_first
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.inputs import Input
from effxfer.runtime.model_file.metadata import Metadata
from effxfer.runtime.multi_task.task_outputs import TaskOutputs
from effxfer.runtime.outputs.base import Output
from effxfer.runtime.text.tokens import LONGEST_TEXT, Tokens

WEB = Path(__file__).with_name("web")
PAGE = ("app.js", "outputs.js")
SCRIPTS = {"image": ("images.js", "preprocess.js"), "text": ("texts.js", "tokens.js", "positions.js")}
# What the page needs to know about the places of tokens, by the kind of label.
PLACES = {"span": "tokens", "tags": "words"}


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a bundle's page needs beside its own scripts.

    Attributes:
        libraries: The libraries that it loads; empty for no page.
        note: What the card says about the page: why there is none, or what was not checked; empty if all is well.
    """

    libraries: tuple[WebFiles, ...] = ()
    note: str = ""


def write_page(folder: Path, page: Page, input: Input, index: str) -> None:
    """Write the scripts of a page and its libraries; nothing for a page without libraries.

    Args:
        folder: The bundle.
        page: Its libraries.
        input: What the page reads.
        index: Content of `index.html`.
    """
    if not page.libraries:
        return
    (folder / "index.html").write_text(index, encoding="utf-8")
    for name in (*PAGE, *SCRIPTS[input.kind]):
        (folder / name).write_bytes((WEB / name).read_bytes())
    for library in page.libraries:
        place = folder / library.library.folder
        place.mkdir()
        for name, content in library.files.items():
            (place / name).write_bytes(content)


def model_json(title: str, metadata: Metadata, models: Sequence[Any]) -> dict[str, Any]:
    """Return what `model.json` tells programs and the page: names, labels, models, input and output.

    Args:
        title: Title of the page.
        metadata: Those of the first file.
        models: Dataclasses with the interface of each file.
    """
    facts: dict[str, Any] = {
        "title": title, "labels": list(metadata.labels), "output": metadata.output.to_json(),
        "models": [asdict(model) for model in models],
    }  # fmt: skip
    if isinstance(metadata.input, Tokens):
        return {
            **facts,
            "input": metadata.input.to_json(),
            "tokens": token_facts(metadata.input, place_kind(metadata.output)),
        }
    if isinstance(metadata.input, Preprocess):
        return {**facts, "preprocess": metadata.input.to_json(), "tall_first": tall_first()}
    return facts


def place_kind(output: Output) -> str:
    """Return the kind of label by which the page reads texts; of several tasks that of places, if one has these."""
    kinds = [each.kind for each in output.outputs.values()] if isinstance(output, TaskOutputs) else [output.kind]
    return next((kind for kind in kinds if kind in PLACES), output.kind)


def token_facts(tokens: Tokens, kind: str) -> dict[str, Any]:
    """Return what the page needs beside `tokenizer.json` to make rows of ids, as JSON values.

    Where the model answers with places, for a `kind` of `PLACES`, the page needs them as well. Attributes are those of
    `Pattern` and `Tokens`; `reserved` are ids that no text may yield, and become `unknown`.
    """
    pattern, tokenizer = tokens.compiled_pattern, tokens.loaded
    places = {"places": PLACES[kind], "byte_level": tokenizer.byte_level} if kind in PLACES else {}
    return {
        **places,
        "size": tokens.size, "pad": tokens.pad, "stride": tokens.stride, "longest": LONGEST_TEXT,
        "fields": list(pattern.fields), "special": [list(ids) for ids in pattern.special],
        "chunks": [{"pieces": list(chunk.pieces), "names": list(chunk.names)} for chunk in pattern.chunks],
        "reserved": sorted(tokenizer.reserved | {tokens.pad}), "unknown": tokenizer.unknown,
    }  # fmt: skip


def to_json_text(facts: Any) -> str:
    """Format values as the text of a JSON file."""
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
