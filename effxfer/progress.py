"""Progress and remarks: the library reports them here, and the command line shows them on stderr."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Advance = Callable[[int, str], None]
Bar = Callable[[str, int], AbstractContextManager[Advance]]
Say = Callable[[str], None]

_sinks: list[Bar] = []
_listeners: list[Say] = []


def bar(label: str, total: int) -> AbstractContextManager[Advance]:
    """Open a progress bar; it yields a function of the number of new steps and a short text."""
    return _sinks[-1](label, total) if _sinks else nullcontext(lambda _steps, _text: None)


def remark(text: str) -> None:
    """Report a remark that does not belong to the result, such as the repair of a damaged file."""
    if text and _listeners:
        _listeners[-1](text)


@contextmanager
def show_through(sink: Bar, say: Say = lambda _text: None) -> Iterator[None]:
    """Show the progress of the block through `sink`, and its remarks through `say`."""
    _sinks.append(sink)
    _listeners.append(say)
    try:
        yield
    finally:
        _sinks.pop()
        _listeners.pop()
