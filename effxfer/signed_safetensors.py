"""Safetensors files with a JSON document and its digest, which detects alterations.

The document is the only entry of the metadata, because several entries would be written in arbitrary order.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from effxfer.errors import ModelFileError
from effxfer.runtime.reading import open_regular, read_stream

if TYPE_CHECKING:
    from torch import Tensor

SEAL = "sha256"
LARGEST = 2**33  # 8 GB: the file is read into memory whole
LARGEST_HEADER = 100_000_000  # the limit of safetensors itself
Raw = tuple[str, list[int], bytes]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file.

    Attributes:
        name: Name in errors, such as `ticket`.
        document: Key of the document in the metadata.
        make: Hint with the command that creates such a file.
        schema: Version of the document that this effxfer reads and writes.
    """

    name: str
    document: str
    make: str
    schema: int = 1


def dump(tensors: "Mapping[str, Tensor]", document: Mapping[str, Any] | None = None, title: str = "") -> bytes:
    """Serialise tensors, floating-point ones as float32, and a document with its digest under `title`."""
    from safetensors.torch import save

    def plain(tensor: "Tensor") -> "Tensor":
        tensor = tensor.detach().cpu().contiguous().clone()
        # One type, so that equal values have equal digests; it holds every half-precision value exactly.
        return tensor.float() if tensor.is_floating_point() else tensor

    # Sorted: the bytes must not depend on the order in which fields were set.
    text = document and json.dumps({**document, SEAL: seal(document)}, sort_keys=True)
    return save({name: plain(t) for name, t in tensors.items()}, metadata={title: text} if text else None)


def load(content: bytes, name: str, kind: Kind) -> tuple[dict[str, Raw], dict[str, Any]]:
    """Read the raw tensors and the document that `dump` wrote, without torch.

    Args:
        content: The file's bytes.
        name: Name of the file in errors.
        kind: The expected kind.

    Raises:
        ModelFileError: If it is truncated or altered, or of another kind or schema.
    """
    from safetensors import SafetensorError

    try:
        tensors = _deserialize(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{name} is not a complete safetensors file: {error}", kind.make, code="E403") from error
    if kind.document not in metadata:
        article = "an" if kind.name[0] in "aeiou" else "a"
        text = f"{name} is not {article} {kind.name}: it has no document {kind.document!r}"
        raise ModelFileError(text, kind.make)
    try:
        document = json.loads(metadata[kind.document])
        digest = document.pop(SEAL)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise altered(name, f"its document is no document ({error})") from error
    if digest != seal(document):
        raise altered(name, "its document is not what was written")
    if document.get("schema") != kind.schema:
        text = f"{name} has schema {document.get('schema')}, this effxfer reads {kind.schema}"
        raise ModelFileError(text, "install a matching effxfer")
    return tensors, document


def read_sealed(file: Path) -> bytes:
    """Read a file that `dump` wrote, after checking its size against its header.

    Raises:
        ModelFileError: If it cannot be read, is no regular file, or its size does not match.
    """
    hint, broken = "get an intact copy", f"{file} is not a complete safetensors file"
    try:
        with open_regular(file, LARGEST) as stream:
            size, length = os.fstat(stream.fileno()).st_size, int.from_bytes(stream.read(8), "little")
            # "{}" is the shortest header.
            if not 2 <= length <= min(LARGEST_HEADER, size - 8):
                raise ModelFileError(
                    f"{file} is not a complete safetensors file: its header is invalid", hint, code="E403"
                )
            end = max((entry["data_offsets"][1] for entry in _entries(stream.read(length))), default=0)
            # Before reading: a header of a few bytes may claim gigabytes.
            if 8 + length + end != size:
                raise ModelFileError(f"{broken}: it has {size} bytes, not {8 + length + end}", hint, code="E403")
            stream.seek(0)
            return read_stream(stream, LARGEST)
    except OSError as error:
        raise ModelFileError(f"{file} cannot be read: {error.strerror}", hint, code="E403") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{broken}: {error}", hint, code="E403") from None


def _entries(header: bytes) -> list[Any]:
    return [entry for name, entry in json.loads(header).items() if name != "__metadata__"]


def only(tensors: Mapping[str, Raw], prefix: str) -> dict[str, Raw]:
    """Return the tensors whose names have a prefix, with the prefix removed."""
    return {name.removeprefix(prefix): raw for name, raw in tensors.items() if name.startswith(prefix)}


def sha256(tensors: Mapping[str, Raw]) -> str:
    """Digest tensors by name, type, shape and values, in hexadecimal."""
    hasher = hashlib.sha256()
    for name, (dtype, shape, data) in sorted(tensors.items()):
        hasher.update(json.dumps([name, dtype, shape]).encode() + data)
    return hasher.hexdigest()


def raw_of(tensors: "Mapping[str, Tensor]") -> dict[str, Raw]:
    """Return tensors in the raw form of a file."""
    return _deserialize(dump(tensors))


def seal(document: Mapping[str, Any]) -> str:
    """Digest a document, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def damaged(name: str, reason: str) -> ModelFileError:
    """Return the error for an invalid document with a valid seal."""
    return ModelFileError(f"{name} is damaged: {reason}", "get an intact copy, or make it again", code="E404")


def altered(name: str, reason: str) -> ModelFileError:
    """Return the error for a file that was changed."""
    return ModelFileError(
        f"{name} was changed since it was written: {reason}", "restore it, or make it again", code="E404"
    )


def _deserialize(content: bytes) -> dict[str, Raw]:
    from safetensors import deserialize

    entries: list[tuple[str, dict[str, Any]]] = deserialize(content)  # type: ignore[no-untyped-call]
    return {name: (raw["dtype"], raw["shape"], bytes(raw["data"])) for name, raw in entries}
