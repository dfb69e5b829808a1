"""Rebuild networks that a file describes: a wrong description raises a clear error before it fills the memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from effxfer.errors import EffxferError, ModelFileError, SettingsError, out_of_memory

# A body is first built at full size and then pruned, so it may be this many times larger than the saved weights.
GROWTH = 64
# 512 MB: a pruned network of a few KB may have been built at the size of ViT-B (86 M numbers, 344 MB).
ALLOWANCE = 2**29
# Chosen: a network of 1,000 layers has some thousand; tensors of no bytes could be made without end.
MOST_TENSORS = 200_000
# Of float32: a body is built in no other type.
BYTES = 4
HINT = "get an intact copy, or make it again"


class TooLargeError(Exception):
    """A description asks for far more tensor memory than a file of its size can describe."""


class Bounded(TorchDispatchMode):
    """Count the memory of tensors that are created in the block, and raise before it exceeds a limit.

    Args:
        limit: Bytes of all tensors together.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes_left, self.tensors_left = limit, MOST_TENSORS

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Run an operator, unless it exceeds the limit."""
        shapes = [arg for arg in args[:2] if isinstance(arg, list | tuple) and all(isinstance(n, int) for n in arg)]
        if shapes and any(word in func.__name__ for word in ("empty", "zeros", "ones", "full", "rand")):
            self.bytes_left -= BYTES * prod(shapes[0])
            self.tensors_left -= 1
        if self.bytes_left < 0 or self.tensors_left < 0:
            raise TooLargeError("its network is far larger than its weights")
        return func(*args, **(kwargs or {}))


@contextmanager
def name_rebuild_errors(source: str, size: int) -> Iterator[None]:
    """Turn errors while a recorded network is rebuilt into errors about its file.

    Args:
        source: Name of the file, for errors.
        size: Bytes of its weights.

    Raises:
        ModelFileError: If the description is no valid network, or one that is far larger than its weights.
    """
    try:
        with Bounded(GROWTH * size + ALLOWANCE):
            yield
    except SettingsError as error:
        raise ModelFileError(f"{source} is damaged: {error.problem}", error.hint or HINT, code="E404") from error
    except EffxferError:
        raise
    except Exception as error:  # an architecture may raise anything for arguments that it does not support
        if out_of_memory(error):
            raise
        text = str(error) if isinstance(error, TooLargeError) else f"{type(error).__name__} {error}"
        raise ModelFileError(f"{source} is damaged: {text:.300}", HINT, code="E404") from error
