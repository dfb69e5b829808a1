"""The bytes of a ticket: a safetensors file with bit-packed masks, and a JSON document with a digest of itself.

`mask/NAME` holds the mask of the weight `NAME`, eight weights to a byte, the first one in the highest bit, rows one
after the other; `weight/NAME` the body's weights and buffers at the rewind point; `file/NAME` the bytes of a file that
the input needs, such as a tokenizer.
"""

from collections.abc import Mapping, Sequence
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from effxfer.errors import ModelFileError
from effxfer.signed_safetensors import Raw, tensors_under

MASK, WEIGHT, FILE = "mask/", "weight/", "file/"


def pack_mask(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack a mask of any shape, eight weights to a byte.

    >>> pack_mask(np.array([[True, False, False], [True, True, False]])).tolist()
    [152]
    """
    # An eighth of a byte each: as bools, masks would be a quarter of the float32 weights.
    return np.packbits(mask.reshape(-1))


def unpack_mask(packed: NDArray[np.uint8], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Undo `pack_mask`.

    Raises:
        ModelFileError: If there are more or fewer bytes than a mask of that shape takes.
    """
    count = prod(shape)
    if packed.size != ceil(count / 8):
        raise ModelFileError(f"a mask of shape {tuple(shape)} does not have {packed.size} bytes", code="E410")
    return np.unpackbits(packed, count=count).astype(bool).reshape(tuple(shape))


def unpack_masks(tensors: Mapping[str, Raw], shapes: Mapping[str, Sequence[int]]) -> dict[str, NDArray[np.bool_]]:
    """Unpack all masks of a ticket, by the weight's name.

    Raises:
        ModelFileError: If `shapes` are those of other masks.
    """
    packed = tensors_under(tensors, MASK)
    if shapes.keys() != packed.keys():
        raise ModelFileError("the ticket lists the shapes of other masks than it holds", code="E410")
    return {name: unpack_mask(np.frombuffer(packed[name][2], np.uint8), shape) for name, shape in shapes.items()}
