"""What is said of listed files that cannot be read, before any of them is decoded."""

from collections.abc import Mapping

from effxfer.data.listing import Finding
from effxfer.data.settings import DataSettings
from effxfer.runtime.formats import unreadable

CORRECT = "correct the table's path column, or name the folder of its images: --set data.root=DIR"
LEFT_OUT = "unreadable, left out"
REPAIR = "repair or remove it, or leave it out with skip_bad (--set data.skip_bad=true)"


def unread(failures: Mapping[str, OSError], settings: DataSettings) -> list[Finding]:
    """List files that could not be read: errors, or with `skip_bad` warnings.

    * `E333` no such file: an error in any case, because the source itself is wrong.
    * `E319` no permission, `E307` too large, `E300` no regular file, or anything else that the system refuses.

    Args:
        failures: By path.
        settings: `skip_bad` is used.
    """
    return [_finding(path, error, settings.skip_bad) for path, error in sorted(failures.items())]


def _finding(path: str, error: OSError, skip_bad: bool) -> Finding:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Finding(code="E333", severity="error", path=path, text="no such file", hint=CORRECT)
    code, text, hint = _why(error)
    if skip_bad:
        return Finding(code=code, severity="warning", path=path, text=f"{text}, left out", group=LEFT_OUT)
    return Finding(code=code, severity="error", path=path, text=text, hint=hint)


def _why(error: OSError) -> tuple[str, str, str]:
    if isinstance(error, PermissionError):
        return "E319", f"cannot be read ({error.strerror})", "change its permissions, or move it away"
    found = unreadable(error)
    return found.code, found.problem, found.hint or REPAIR
