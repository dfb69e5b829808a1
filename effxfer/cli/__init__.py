"""The command line: parse, call one library function, print its report."""

import os
import signal
import sys
import traceback
from types import FrameType

from effxfer.errors import EffxferError, ResourceError

DEBUG = "--debug"
SIGNALS = {"KeyboardInterrupt": 130, "Terminated": 143}


class Terminated(BaseException):
    """The process was asked to end (SIGTERM)."""


def main() -> None:
    """Run the app: results on stdout, everything else on stderr, a mistake as one line and its exit code."""
    from effxfer.cli.app import app

    signal.signal(signal.SIGTERM, _terminate)
    try:
        app([word for word in sys.argv[1:] if word != DEBUG], standalone_mode=False)
    except (EffxferError, KeyboardInterrupt, Terminated, OSError, MemoryError) as error:
        _fail(error)
    except Exception as error:
        _refuse(error)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


def _fail(error: BaseException) -> None:
    """Say what went wrong in a line or two, and exit with its code."""
    if DEBUG in sys.argv:
        traceback.print_exc()
    name = type(error).__name__
    if name in SIGNALS:
        print(f"effxfer: stopped; go on with: {reproduce()}", file=sys.stderr, flush=True)
        os._exit(SIGNALS[name])
    if isinstance(error, BrokenPipeError):
        os._exit(0)
    if isinstance(error, OSError | MemoryError):
        error = ResourceError(f"{name}: {error}", "the traceback comes with --debug")
    print(f"effxfer: {error}", file=sys.stderr)
    raise SystemExit(error.exit_code if isinstance(error, EffxferError) else 1) from None


def _refuse(error: Exception) -> None:
    """Show usage errors in the words of click, which newer typers carry inside; else it is our defect, and says so."""
    import typer

    if isinstance(error, typer.Exit):
        raise SystemExit(error.exit_code) from None
    if isinstance(error, typer.Abort):
        raise SystemExit(130) from None
    if show := getattr(error, "show", None):
        show()
        raise SystemExit(2) from None
    if type(error).__name__ == "OutOfMemoryError":
        _fail(ResourceError(f"the GPU's memory is full: {error}", "use smaller batches: --set options.batch=16"))
    if DEBUG in sys.argv:
        traceback.print_exc()
    line = f"effxfer: this is a defect of effxfer: {type(error).__name__}: {error}"
    print(f"{line}\n  hint: run again with --debug and report what it prints", file=sys.stderr)
    raise SystemExit(1) from None


def reproduce() -> str:
    """The command that this process was started with."""
    import shlex

    return shlex.join(["effxfer", *(a for a in sys.argv[1:] if a not in ("--json", DEBUG, "--dry-run", "--force"))])
