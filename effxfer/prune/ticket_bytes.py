"""The bytes of a ticket: a safetensors file with bit-packed masks, and a JSON document with a digest of itself.

`mask/NAME` holds the mask of the weight `NAME`, eight weights to a byte, the first one in the highest bit, rows one
after the other; `weight/NAME` the body's weights and buffers at the rewind point. The document is the only entry of the
metadata, because more than one would be written in any order.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from effxfer.errors import ModelFileError

if TYPE_CHECKING:
    from torch import Tensor

DOCUMENT, SEAL = "effxfer.ticket", "sha256"
MASK, WEIGHT = "mask/", "weight/"
MAKE = "make one with `effxfer prune --method lottery`"
Raw = tuple[str, list[int], bytes]


def pack_mask(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack a mask of any shape, eight weights to a byte.

    >>> pack_mask(np.array([[True, False, False], [True, True, False]])).tolist()
    [152]
    """
    return np.packbits(mask.reshape(-1))


def unpack_mask(packed: NDArray[np.uint8], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Undo `pack_mask`.

    Raises:
        ModelFileError: If there are more or fewer bytes than a mask of that shape takes.
    """
    count = prod(shape)
    if packed.size != ceil(count / 8):
        raise ModelFileError(f"{packed.size} bytes are no mask of shape {tuple(shape)}", code="E410")
    return np.unpackbits(packed, count=count).astype(bool).reshape(tuple(shape))


def unpack_masks(tensors: Mapping[str, Raw], shapes: Mapping[str, Sequence[int]]) -> dict[str, NDArray[np.bool_]]:
    """Unpack all masks of a ticket, by the weight's name.

    Raises:
        ModelFileError: If `shapes` are those of other masks.
    """
    packed = only(tensors, MASK)
    if shapes.keys() != packed.keys():
        raise ModelFileError("the ticket's masks and their shapes have other names", code="E410")
    return {name: unpack_mask(np.frombuffer(packed[name][2], np.uint8), shape) for name, shape in shapes.items()}


def dump(tensors: "Mapping[str, Tensor]", document: Mapping[str, Any] | None = None) -> bytes:
    """Serialise tensors, numbers with a point as float32, and a document with its digest."""
    from safetensors.torch import save

    def plain(tensor: "Tensor") -> "Tensor":
        tensor = tensor.detach().cpu().contiguous().clone()
        return tensor.float() if tensor.is_floating_point() else tensor

    text = document and json.dumps({**document, SEAL: seal(document)}, sort_keys=True)
    return save({name: plain(t) for name, t in tensors.items()}, metadata={DOCUMENT: text} if text else None)


def load(content: bytes, name: str) -> tuple[dict[str, Raw], dict[str, Any]]:
    """Read what `dump` wrote: the tensors as they lie in the file, and the document; needs no torch.

    Raises:
        ModelFileError: If it is truncated, is no ticket, or its document was altered.
    """
    from safetensors import SafetensorError

    try:
        found = _raw(content)
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{name} is not a complete safetensors file: {error}", MAKE, code="E403") from error
    if DOCUMENT not in metadata:
        raise ModelFileError(f"{name} is not a ticket: it holds no document {DOCUMENT!r}", MAKE)
    try:
        document = json.loads(metadata[DOCUMENT])
        told = document.pop(SEAL)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise altered(name, f"its document is no document ({error})") from error
    if told != seal(document):
        raise altered(name, "its document is not what was written")
    return found, document


def only(tensors: Mapping[str, Raw], prefix: str) -> dict[str, Raw]:
    """Give the tensors whose name begins so, without that beginning."""
    return {name.removeprefix(prefix): raw for name, raw in tensors.items() if name.startswith(prefix)}


def sha256(tensors: Mapping[str, Raw]) -> str:
    """Digest tensors by name, type, shape and values, in hexadecimal."""
    found = hashlib.sha256()
    for name, (dtype, shape, data) in sorted(tensors.items()):
        found.update(json.dumps([name, dtype, shape]).encode() + data)
    return found.hexdigest()


def raw_of(tensors: "Mapping[str, Tensor]") -> dict[str, Raw]:
    """Give tensors as they would lie in a file."""
    return _raw(dump(tensors))


def seal(document: Mapping[str, Any]) -> str:
    """Digest a document, however it is laid out."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def altered(name: str, why: str) -> ModelFileError:
    """Say that a ticket cannot be trusted."""
    return ModelFileError(
        f"{name} was changed since it was written: {why}", "restore it, or make it again", code="E404"
    )


def _raw(content: bytes) -> dict[str, Raw]:
    from safetensors import deserialize

    found: list[tuple[str, dict[str, Any]]] = deserialize(content)  # type: ignore[no-untyped-call]
    return {name: (raw["dtype"], raw["shape"], bytes(raw["data"])) for name, raw in found}
