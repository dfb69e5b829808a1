"""Safetensors files with a JSON document and its digest, which detects alterations.

The document is the only entry of the metadata, because several entries would be written in arbitrary order.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from effxfer.errors import ModelFileError
from effxfer.files import write_atomic
from effxfer.runtime.reading import open_regular, read_stream

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
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
        facts: Dataclass of the document; its `schema` is the version that this effxfer reads and writes.
        find_mistake: Describes the first invalid field of a document; empty if it is valid.
    """

    name: str
    document: str
    make: str
    facts: type[Any]
    find_mistake: Callable[[Mapping[str, Any]], str]


AnyTensor = TypeVar("AnyTensor")
AnyFacts = TypeVar("AnyFacts", bound="DataclassInstance")


@dataclass(frozen=True, eq=False)
class SignedFile(Generic[AnyFacts]):
    """A file whose document and tensors were checked; each kind of file is a subclass.

    Attributes:
        facts: Its document.
        content: The file's bytes.
    """

    kind: ClassVar[Kind]
    facts: AnyFacts
    content: bytes

    @staticmethod
    def parts(_facts: Any) -> Mapping[str, str]:
        """Map each field of the document that is a digest of tensors to the prefix of their names."""
        return {"tensors": ""}

    @classmethod
    def pack(cls, facts: AnyFacts, tensors: "Mapping[str, Tensor]") -> Self:
        """Fill in the digests of the tensors, and serialise both.

        Raises:
            ValueError: If the facts are not JSON, or contain NaN.
        """
        raw = raw_of(tensors)
        digests = {part: sha256(tensors_under(raw, prefix)) for part, prefix in cls.parts(facts).items()}
        document = json.loads(json.dumps({**asdict(facts), **digests}, allow_nan=False))
        return cls(cls.kind.facts(**document), dump(tensors, document, cls.kind.document))

    @classmethod
    def unpack(cls, content: bytes, name: str = "") -> Self:
        """Read a file, and check all that can be checked without its network.

        Args:
            content: The file's bytes.
            name: Name of the file in errors; empty is that of its kind.

        Raises:
            ModelFileError: If it is of another kind or schema, truncated, or altered.
        """
        name = name or f"the {cls.kind.name}"
        tensors, document = load(content, name, cls.kind)
        if reason := cls.kind.find_mistake(document):
            raise damage_error(name, reason)
        file = cls(cls.kind.facts(**document), content)
        file.check(tensors, name)
        return file

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read and check a file on disk; see `unpack` for errors, and if it cannot be read."""
        return cls.unpack(_read_complete(file), str(file))

    def save(self, file: Path) -> None:
        """Write the file atomically."""
        write_atomic(file, self.content)

    def tensors(self) -> "dict[str, Tensor]":
        """Return the file's tensors by name."""
        from safetensors.torch import load as deserialize

        return deserialize(self.content)

    def check(self, tensors: Mapping[str, Raw], name: str) -> None:
        """Check the file's tensors against the digests in its document.

        Raises:
            ModelFileError: If they differ.
        """
        for part, prefix in self.parts(self.facts).items():
            actual, expected = sha256(tensors_under(tensors, prefix)), getattr(self.facts, part)
            if actual != expected:
                raise alteration_error(name, f"SHA-256 of its {part} is {actual[:12]}, not {expected[:12]}")


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
        raise alteration_error(name, f"its document is no document ({error})") from error
    if digest != seal(document):
        raise alteration_error(name, "its document is not what was written")
    if document.get("schema") != kind.facts.schema:
        text = f"{name} has schema {document.get('schema')}, this effxfer reads {kind.facts.schema}"
        raise ModelFileError(text, "install a matching effxfer")
    return tensors, document


def _read_complete(file: Path) -> bytes:
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
                raise ModelFileError(f"{broken}: its header is invalid", hint, code="E403")
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


def tensors_under(tensors: Mapping[str, AnyTensor], prefix: str) -> dict[str, AnyTensor]:
    """Return the tensors whose names have a prefix, with the prefix removed."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


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


def damage_error(name: str, reason: str) -> ModelFileError:
    """Return the error for an invalid document with a valid seal."""
    return ModelFileError(f"{name} is damaged: {reason}", "get an intact copy, or make it again", code="E404")


def misfit_error(parts: str, wrong: Sequence[str], code: str, hint: str = "") -> ModelFileError:
    """Return the error for tensors that a network lacks or needs, or that have another shape there."""
    suffix = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
    return ModelFileError(f"{parts} do not fit its network: {', '.join(wrong[:5])}{suffix}", hint, code=code)


def alteration_error(name: str, reason: str) -> ModelFileError:
    """Return the error for a file that was changed."""
    text = f"{name} was changed since it was written: {reason}"
    return ModelFileError(text, "restore it, or make it again", code="E404")


def _deserialize(content: bytes) -> dict[str, Raw]:
    from safetensors import deserialize

    entries: list[tuple[str, dict[str, Any]]] = deserialize(content)  # type: ignore[no-untyped-call]
    return {name: (raw["dtype"], raw["shape"], bytes(raw["data"])) for name, raw in entries}
