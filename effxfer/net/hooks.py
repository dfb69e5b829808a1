"""Run a network for inspection: with temporary hooks, and temporarily in evaluation mode."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def hooks(handles: Iterable[Any]) -> Iterator[None]:
    """Remove registered hooks at the end of the block, by their handles."""
    registered = list(handles)
    try:
        yield
    finally:
        for handle in registered:
            handle.remove()


@contextmanager
def as_evaluated(module: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode in the block, and restore each submodule's own mode afterwards."""
    was = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, training in was:
            m.training = training
