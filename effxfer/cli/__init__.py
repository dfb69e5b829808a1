"""The command line: parse, call one library function, print its report."""

import errno
import io
import os
import sys
import traceback

from effxfer.cli.command_line import DEBUG, in_flags, reproduce
from effxfer.errors import EffxferError, ResourceError, memory_full, out_of_memory
from effxfer.process import interrupt
from effxfer.runtime.printing import printable


def main() -> None:
    """Run the app: results on stdout, everything else on stderr, a mistake as one line and its exit code."""
    code = 1
    with interrupt.heeded(f"effxfer: stopped; go on with: {reproduce(as_it_was=True)}"):
        code = _run()
    raise SystemExit(code)


def _run() -> int:
    """Run the app; give the exit code."""
    from effxfer.cli.app import app

    _any_name_can_be_printed()
    try:
        code = app([word for word in sys.argv[1:] if word != DEBUG], standalone_mode=False)
    except Exception as error:
        interrupt.leave()
        return _fail(error)
    return code if isinstance(code, int) else 0


def _any_name_can_be_printed() -> None:
    """Escape what the terminal cannot show, such as file names that are no text, instead of failing at it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(error: BaseException) -> int:
    """Say what went wrong in a line or two; give the exit code."""
    if isinstance(error, BrokenPipeError):
        os._exit(0)
    if out_of_memory(error):
        error = memory_full(error)
    elif isinstance(error, OSError):
        error = _no_output(error) or ResourceError(
            f"{type(error).__name__}: {error}", "the traceback comes with --debug"
        )
    if not isinstance(error, EffxferError):
        return _refuse(error)
    _trace()
    print(f"effxfer: {in_flags(str(error))}", file=sys.stderr)
    return error.exit_code


def _no_output(error: OSError) -> ResourceError | None:
    """Say that an output such as the terminal's cannot be written, if that went wrong: the error names no file."""
    if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO, errno.EBADF):
        return None
    return ResourceError(f"an output cannot be written: {error.strerror}", "make room, or print to another place")


def _refuse(error: BaseException) -> int:
    """Show usage errors in the words of click, which newer typers carry inside; else it is our defect, and says so."""
    if show := getattr(error, "show", None):
        show()
        return 2
    error = error.__cause__ or error if type(error).__name__ == "Abort" else error  # typer's word for an EOFError
    _trace()
    line = f"effxfer: this is a defect of effxfer: {type(error).__name__}: {printable(error)}"
    print(f"{line}\n  hint: run again with --debug and report what it prints", file=sys.stderr)
    return 1


def _trace() -> None:
    if DEBUG in sys.argv:
        traceback.print_exc()
