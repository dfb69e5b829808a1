"""The side of a child of `ChildPool`: send progress, and leave the outcome in a file.

A message is one line of the output: the mark, and a JSON object. All other lines are what libraries print.
"""

import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from effxfer import errors
from effxfer.errors import EffxferError, memory_full, out_of_memory
from effxfer.files import write_atomic
from effxfer.process import interrupt
from effxfer.process.job_slots import hold_slot
from effxfer.process.timing_lock import share_machine
from effxfer.progress import Advance, show_through

MARK = "\x1e"  # ASCII's record separator, which no library prints
OUTCOME = ".outcome.json"
GRACE = 3.0  # seconds from SIGTERM to SIGKILL; less than service managers wait
INTERVAL = 0.2  # seconds between two messages of a bar: chosen; faster ones cannot be read


def serve(file: Path, work: Callable[[Mapping[str, Any]], None]) -> None:
    """Do the work of a request and write its outcome beside it; Ctrl-C is left to the parent.

    Args:
        file: The request of `ChildPool.start`, a JSON object.
        work: Called with the request.
    """
    # The terminal sends Ctrl-C to the whole group; the parent ends its children with SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    request = json.loads(file.read_text())
    with interrupt.end_on_signals("stopped", patience=GRACE / 2):
        failure: dict[str, Any] | None = None
        try:
            locks = Path(request["locks"])
            with (
                show_through(_bar, lambda text: _send({"remark": text})),
                hold_slot(locks, request["jobs"]),
                share_machine(locks),
            ):
                work(request)
        except Exception as error:  # raised again in the parent
            interrupt.end_if_signalled()
            failure = error_to_json(error)
        write_atomic(file.with_suffix(OUTCOME), json.dumps(failure))


def error_to_json(error: Exception) -> dict[str, Any]:
    """Return an error as plain values, with its class, code and traceback."""
    if out_of_memory(error):
        error = memory_full(error)
    plain = {"class": type(error).__name__, "trace": "".join(traceback.format_exception(error))}
    if isinstance(error, EffxferError):
        return plain | {"problem": error.problem, "hint": error.hint, "code": error.code}
    return plain | {"problem": str(error), "system": isinstance(error, OSError)}


def error_from_json(plain: Mapping[str, Any]) -> Exception:
    """Return the error that a child has written: an `EffxferError` of its class, or an internal error of its name."""
    cls = getattr(errors, plain["class"], None) if "code" in plain else None
    # A class of the same name: the command line prints it, whatever package it came from.
    base = OSError if plain.get("system") else RuntimeError
    error: Exception = (
        cls(plain["problem"], plain["hint"], code=plain["code"]) if cls
        else type(plain["class"], (base,), {})(plain["problem"])
    )  # fmt: skip
    error.add_note(plain["trace"])
    return error


_numbers = count()


@contextmanager
def _bar(label: str, total: int) -> Iterator[Advance]:
    number, steps, last = next(_numbers), 0, 0.0
    _send({"open": number, "label": label, "total": total})

    def advance(new_steps: int, text: str) -> None:
        nonlocal steps, last
        steps += new_steps
        if time.monotonic() - last > INTERVAL:
            _send({"advance": number, "steps": steps, "text": text[:200]})
            steps, last = 0, time.monotonic()

    try:
        yield advance
    finally:
        _send({"close": number, "steps": steps})


def _send(message: Mapping[str, Any]) -> None:
    # In one write, which no other output can divide while it is shorter than a page of the pipe.
    os.write(1, f"{MARK}{json.dumps(message)}\n".encode())
