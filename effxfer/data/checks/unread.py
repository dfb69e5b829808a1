"""What is said of listed files that cannot be read, before any of them is decoded."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from effxfer.data.listing import Finding, Item, some
from effxfer.data.settings import DataSettings
from effxfer.runtime.images.formats import unreadable_error

CORRECT = "correct the table's path column, or name the folder of its images: `data.root=DIR`"
LEFT_OUT = "unreadable, left out"
REPAIR = "repair or remove it, or leave it out: `data.skip_bad=true`"


def unread(failures: Mapping[str, OSError], settings: DataSettings) -> list[Finding]:
    """List files that could not be read: errors, or with `skip_bad` warnings.

    * `E333` no such file: an error in any case, because the source itself is wrong.
    * `E319` no permission, `E307` too large, `E300` no regular file, or anything else that the system refuses.

    Args:
        failures: By path.
        settings: `skip_bad` is used.
    """
    return [_finding(path, error, settings.skip_bad) for path, error in sorted(failures.items())]


def emptied(classes: Sequence[str], items: Iterable[Item], lost: Collection[str] = ()) -> list[Finding]:
    """Refuse classes of which no image is left (`E313`).

    Args:
        classes: All of them.
        items: Of which each class needs one.
        lost: Paths that do not count.
    """
    left = {item.label for item in items if item.path not in lost}
    gone = [repr(name) for name in classes if name not in left]
    text, hint = f"no readable training image is left of {some(gone)}", "repair these images, or remove the classes"
    return [Finding(code="E313", severity="error", path="", text=text, hint=hint)] if gone else []


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
    found = unreadable_error(error)
    return found.code, found.problem, found.hint or REPAIR
