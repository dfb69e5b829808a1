"""Networks that a file describes: whatever is wrong with the description is said in words, before memory is full."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from effxfer.errors import EffxferError, ModelFileError, SettingsError, out_of_memory

# A body may be that much larger than what pruning left of it, and be drawn before it is cut.
ROOM = 64
SPARE = 2**29
MOST_TENSORS = 200_000
BYTES = 4
HINT = "get an intact copy, or make it again"


class TooLargeError(Exception):
    """Tensors that no file of that size describes."""


class Bounded(TorchDispatchMode):
    """Counts what tensors take that are made in the block, and ends it before they take more than a limit.

    Args:
        limit: In bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.left, self.tensors = limit, MOST_TENSORS

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Run an operator, unless it is one too many."""
        shapes = [one for one in args[:2] if isinstance(one, list | tuple) and all(isinstance(n, int) for n in one)]
        if shapes and any(word in func.__name__ for word in ("empty", "zeros", "ones", "full", "rand")):
            self.left -= BYTES * prod(shapes[0])
            self.tensors -= 1
        if self.left < 0 or self.tensors < 0:
            raise TooLargeError("its network is far larger than its weights")
        return func(*args, **(kwargs or {}))


@contextmanager
def replaying(where: str, size: int) -> Iterator[None]:
    """Rebuild in the block a network that a file describes.

    Args:
        where: The file, to name it in errors.
        size: Bytes of its weights.

    Raises:
        ModelFileError: If the description makes no network, or one that is far larger than its weights.
    """
    try:
        with Bounded(ROOM * size + SPARE):
            yield
    except SettingsError as error:
        raise ModelFileError(f"{where} is damaged: {error.problem}", error.hint or HINT, code="E404") from error
    except EffxferError:
        raise
    except Exception as error:  # whatever an architecture raises that is given what it cannot be given
        if out_of_memory(error):
            raise
        text = str(error) if isinstance(error, TooLargeError) else f"{type(error).__name__} {error}"
        raise ModelFileError(f"{where} is damaged: {text:.300}", HINT, code="E404") from error
