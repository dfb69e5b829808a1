"""The memory of a network in one file, `memory.safetensors` of a model directory: tensors and a document, no code.

It holds examples of earlier tasks, unless their strategy keeps none or refers to them: exported files and bundles go
without it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effxfer.data.continual.memory import Memory
from effxfer.documents.documents import MemoryDocument
from effxfer.documents.find_mistake import find_mistake
from effxfer.errors import ModelFileError
from effxfer.signed_safetensors import Kind, SignedFile

if TYPE_CHECKING:
    from effxfer.net.net import Net

MEMORY = "memory.safetensors"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The document of a memory.

    Attributes:
        backbone: The body that it belongs to, before its edits: `{"source": ..., "args": {...}}`.
        preprocess: Preprocessing of the examples in it.
        tasks: See `Memory.tasks`.
        facts: See `Memory.facts`.
        tensors: SHA-256 of the file's tensors.
        schema: Version of this layout.
    """

    backbone: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    tasks: list[Mapping[str, Any]]
    facts: Mapping[str, Any]
    tensors: str
    schema: int = 1


class MemoryFile(SignedFile[Facts]):
    """A checked memory."""

    kind = Kind(
        name="memory", document="effxfer.memory", make="make one with `effxfer finetune --strategy replay`",
        facts=Facts, find_mistake=partial(find_mistake, MemoryDocument),
    )  # fmt: skip


def write_memory(net: "Net", file: Path) -> None:
    """Write the memory of a network, if it has one."""
    if net.memory is None:
        return
    memory = net.memory
    facts = Facts(
        backbone=net.backbone, preprocess=net.input.to_json(), tasks=list(memory.tasks), facts=memory.facts, tensors=""
    )
    MemoryFile.pack(facts, memory.tensors).save(file)


def read_memory(net: "Net", file: Path) -> Memory:
    """Read the memory of a network.

    Raises:
        ModelFileError: If it is damaged, or that of a network with another backbone or preprocessing (E416).
    """
    memory = MemoryFile.read(file)
    parts = {"backbone": (memory.facts.backbone, dict(net.backbone))}
    parts["preprocessing"] = (memory.facts.preprocess, net.input.to_json())
    for part, (recorded, actual) in parts.items():
        if recorded != actual:
            text = f"{file} is the memory of a network with another {part}: {_difference(recorded, actual)}"
            raise ModelFileError(text, "name the model directory that it was made in", code="E416")
    return Memory(tasks=tuple(memory.facts.tasks), tensors=memory.tensors(), facts=memory.facts.facts)


def _difference(recorded: Mapping[str, Any], actual: Mapping[str, Any]) -> str:
    key = next(key for key in {**recorded, **actual} if recorded.get(key) != actual.get(key))
    return f"its {key} is {recorded.get(key)!r:.60}, not {actual.get(key)!r:.60}"
