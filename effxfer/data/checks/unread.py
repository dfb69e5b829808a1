"""Report listed files that cannot be read, before any is decoded."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from effxfer.data.listing import Finding, Item, LabelKind, first_names
from effxfer.data.settings import DataSettings
from effxfer.runtime.images.formats import unreadable_error

CORRECT = "correct the table's path column, or set the folder of its images: `data.root=DIR`"
LEFT_OUT = "unreadable, left out"
REPAIR = "repair or remove it, or leave it out: `data.skip_bad=true`"


def find_unreadable(failures: Mapping[str, OSError], settings: DataSettings) -> list[Finding]:
    """List files that could not be read: errors, or warnings with `skip_bad`.

    * `E333` no such file: always an error, because the source itself is wrong.
    * `E319` no permission, `E307` too large, `E300` no regular file or another refusal by the system.

    Args:
        failures: Errors by path.
        settings: `skip_bad` is used.
    """
    return [_finding(path, error, settings.skip_bad) for path, error in sorted(failures.items())]


def find_empty_classes(
    classes: Sequence[str], items: Iterable[Item], unreadable: Collection[str] = (), kind: LabelKind = "single"
) -> list[Finding]:
    """Refuse classes without a readable image (`E313`); for other kinds of label, the absence of any.

    Args:
        classes: All class names.
        items: The images.
        unreadable: Paths of unreadable images.
        kind: Kind of label.
    """
    if kind != "single":
        readable = any(item.path not in unreadable for item in items)
        text = "no readable training image"
        return (
            [] if readable else [Finding(code="E313", severity="error", path="", text=text, hint="repair the images")]
        )
    filled = {item.label for item in items if item.path not in unreadable}
    empty = [repr(name) for name in classes if name not in filled]
    text, hint = f"no readable training image in {first_names(empty)}", "repair these images, or remove the classes"
    return [Finding(code="E313", severity="error", path="", text=text, hint=hint)] if empty else []


def _finding(path: str, error: OSError, skip_bad: bool) -> Finding:
    # `skip_bad` does not apply: a table with wrong paths would lose all images without a word.
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Finding(code="E333", severity="error", path=path, text="no such file", hint=CORRECT)
    code, text, hint = _explain(error)
    if skip_bad:
        return Finding(code=code, severity="warning", path=path, text=f"{text}, left out", group=LEFT_OUT)
    return Finding(code=code, severity="error", path=path, text=text, hint=hint)


def _explain(error: OSError) -> tuple[str, str, str]:
    if isinstance(error, PermissionError):
        return "E319", f"cannot be read ({error.strerror})", "change its permissions, or move it away"
    image_error = unreadable_error(error)
    return image_error.code, image_error.problem, image_error.hint or REPAIR
