"""What is going on, for whoever watches: the library says it here, the command line shows it on stderr."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Advance = Callable[[int, str], None]
Bar = Callable[[str, int], AbstractContextManager[Advance]]
Say = Callable[[str], None]

_sinks: list[Bar] = []
_listeners: list[Say] = []


def bar(label: str, total: int) -> AbstractContextManager[Advance]:
    """Open a progress bar; call what it gives with the number of new steps and a short text."""
    return _sinks[-1](label, total) if _sinks else nullcontext(lambda _steps, _text: None)


def remark(text: str) -> None:
    """Say what a person should know that is not about the result, such as that a damaged file is made again."""
    if text and _listeners:
        _listeners[-1](text)


@contextmanager
def shown_by(sink: Bar, say: Say = lambda _text: None) -> Iterator[None]:
    """Show all progress of the block through `sink`, and remarks through `say`."""
    _sinks.append(sink)
    _listeners.append(say)
    try:
        yield
    finally:
        _sinks.pop()
        _listeners.pop()
