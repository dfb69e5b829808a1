"""The command line: parse, call one function of the api, print its report."""

import errno
import io
import os
import sys
import traceback

from effxfer.cli.command_line import DEBUG, reproduce, to_flags
from effxfer.errors import EffxferError, ResourceError, memory_full, out_of_memory
from effxfer.process import interrupt
from effxfer.runtime.printing import printable


def main() -> None:
    """Run the app: results go to stdout, everything else to stderr; an error is one line and an exit code."""
    code = 1
    # Before anything else is imported, so that Ctrl-C while torch loads ends cleanly, too.
    with interrupt.end_on_signals(f"effxfer: stopped; go on with: {reproduce(as_it_was=True)}"):
        code = _run()
    raise SystemExit(code)


def _run() -> int:
    """Run the app; return the exit code."""
    from effxfer.cli.app import app

    _escape_unprintable_output()
    try:
        code = app([word for word in sys.argv[1:] if word != DEBUG], standalone_mode=False)
    except Exception as error:  # the only place that turns errors into exit codes
        # First: an exception that follows from a signal is not reported as an error of its own.
        interrupt.end_if_signalled()
        return _fail(error)
    return code if isinstance(code, int) else 0


def _escape_unprintable_output() -> None:
    """Escape characters that the terminal cannot encode, for example in file names, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(error: BaseException) -> int:
    """Print the error and its hint; return the exit code."""
    if isinstance(error, BrokenPipeError):
        os._exit(0)  # the reader, such as `head`, closed the pipe: flushing stdout at exit would fail again
    if out_of_memory(error):
        error = memory_full(error)
    elif isinstance(error, OSError):
        error = _no_output(error) or ResourceError(
            f"{type(error).__name__}: {error}", "run again with --debug to see the traceback"
        )
    if not isinstance(error, EffxferError):
        return _refuse(error)
    _trace()
    print(f"effxfer: {to_flags(str(error))}", file=sys.stderr)
    return error.exit_code


def _no_output(error: OSError) -> ResourceError | None:
    """Convert a failed write to stdout or stderr, which names no file, into a `ResourceError`; else None."""
    if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO, errno.EBADF):
        return None
    return ResourceError(
        f"cannot write the output: {error.strerror}", "free disk space, or redirect the output elsewhere"
    )


def _refuse(error: BaseException) -> int:
    """Print a usage error by click's own `show`, which recent Typer vendors; report anything else as a bug."""
    if show := getattr(error, "show", None):
        show()
        return 2
    error = error.__cause__ or error if type(error).__name__ == "Abort" else error  # typer's word for an EOFError
    _trace()
    line = f"effxfer: internal error: {type(error).__name__}: {printable(error)}"
    print(f"{line}\n  hint: run again with --debug and report the traceback", file=sys.stderr)
    return 1


def _trace() -> None:
    if DEBUG in sys.argv:
        traceback.print_exc()
