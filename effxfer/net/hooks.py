"""How a network is run to be looked at: with hooks that leave it, and in evaluation mode for as long as that takes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def hooks(handles: Iterable[Any]) -> Iterator[None]:
    """Remove hooks at the end of the block, by what registering them gave."""
    held = list(handles)
    try:
        yield
    finally:
        for handle in held:
            handle.remove()


@contextmanager
def as_evaluated(module: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode for the length of the block, and back to each submodule's own mode."""
    was = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, training in was:
            m.training = training
