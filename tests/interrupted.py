"""The command line in a process of its own, in which a library misbehaves: `python interrupted.py MODE SIGNAL`.

It asks `effxfer status`, whose plan is read by one of the functions here; each sends this process the signal first.
"""

import atexit
import hashlib
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

from effxfer import cli
from effxfer.errors import ModelFileError
from effxfer.pipeline import run as pipeline
from effxfer.process import interrupt

MODE, NUMBER = sys.argv[1], int(sys.argv[2])
LONG = 300.0
PATIENT = ("raised", "swallowed", "lost_in_a_destructor", "another_error", "went_on", "slow_to_clean_up", "twice")


def send():
    os.kill(os.getpid(), NUMBER)
    time.sleep(LONG)


def raised():
    send()


def swallowed():
    with suppress(BaseException):
        send()
    time.sleep(LONG)


def swallowed_for_ever():
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        with suppress(BaseException):
            send()


def lost_in_a_destructor():
    class Lost:
        def __del__(self):
            send()

    lost = Lost()
    del lost
    time.sleep(LONG)


def another_error():
    try:
        send()
    except BaseException:
        raise ModelFileError("operators that ONNX Runtime does not know", "replace the operator", code="E426") from None


def went_on():
    try:
        send()
    except BaseException:
        return {"name": "plan"}


def native():
    """The signal comes while no instruction of Python is run for minutes."""
    threading.Timer(0.3, os.kill, (os.getpid(), NUMBER)).start()
    hashlib.pbkdf2_hmac("sha512", b"x", b"y", 10**9)


def another_handler():
    signal.signal(NUMBER, lambda *_: None)
    send()


def slow_to_clean_up():
    try:
        send()
    finally:
        time.sleep(2 * interrupt.TICK + 1)
        print("cleaned up", file=sys.stderr)


def twice():
    try:
        send()
    finally:
        time.sleep(interrupt.MIN_REPEAT_SECONDS + 0.2)
        os.kill(os.getpid(), NUMBER)
        time.sleep(LONG)


def never():
    """No signal comes."""
    return pipeline.Plan(name="none", backbone=None, data={}, steps=())


def late():
    """It comes when the result is printed."""
    atexit.register(os.kill, os.getpid(), NUMBER)
    return never()


def ignored():
    os.kill(os.getpid(), NUMBER)
    return never()


if __name__ == "__main__":
    # a suite that runs in the background ignores it
    signal.signal(signal.SIGINT, signal.SIG_IGN if MODE == "ignored" else signal.default_int_handler)
    cli.interrupt = SimpleNamespace(**vars(interrupt))
    cli.interrupt.end_on_signals = partial(interrupt.end_on_signals, patience=60.0 if MODE in PATIENT else 2.0)
    pipeline.read_plan = lambda *_, **__: globals()[MODE]()
    sys.argv = ["effxfer", "status", "demo", "--seed", "3", "--json"]
    cli.main()
