"""What is going on, for whoever watches: the library says it here, the command line shows it on stderr."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

Advance = Callable[[int, str], None]
Bar = Callable[[str, int], AbstractContextManager[Advance]]
T = TypeVar("T")

_sinks: list[Bar] = []


def bar(label: str, total: int) -> AbstractContextManager[Advance]:
    """Open a progress bar; call what it gives with the number of new steps and a short text."""
    return _sinks[-1](label, total) if _sinks else nullcontext(lambda _steps, _text: None)


@contextmanager
def shown_by(sink: Bar) -> Iterator[None]:
    """Show all progress of the block through `sink`."""
    _sinks.append(sink)
    try:
        yield
    finally:
        _sinks.pop()
