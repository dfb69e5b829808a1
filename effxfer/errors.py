"""Everything that can go wrong for a user, and the exit code it ends in.

* EffxferError            1
  x SettingsError         2   an unknown, missing or impossible setting
  x DataError             3   images, labels or splits that cannot be trained on
  x ModelFileError        4   weights, an artifact or an ONNX file that is absent, altered or does not fit
  x ResourceError         5   no disk, no memory, no network, a missing package
  x GateError             6   a result that is not good enough to ship
  x LockedError           7   another process works in the same directory

The library raises these; only the command line turns them into exit codes.
"""

from collections.abc import Sequence


class EffxferError(Exception):
    """A problem in one line, what would work, and the code under which it is documented.

    Args:
        problem: What was passed and why it does not work.
        hint: What would work, or the next command; empty if there is none.
        code: Stable identifier such as `E310`; empty if the class says enough.
    """

    exit_code = 1

    def __init__(self, problem: str, hint: str = "", *, code: str = "") -> None:
        self.problem, self.hint, self.code = problem, hint, code
        super().__init__(problem)

    def __str__(self) -> str:
        head = f"{self.code} {self.problem}" if self.code else self.problem
        return f"{head}\n  hint: {self.hint}" if self.hint else head


class SettingsError(EffxferError):
    """An unknown, missing or impossible setting."""

    exit_code = 2


class DataError(EffxferError):
    """Images, labels or splits that cannot be trained on."""

    exit_code = 3


class ModelFileError(EffxferError):
    """Weights, an artifact or an ONNX file that is absent, altered or does not fit."""

    exit_code = 4


class ResourceError(EffxferError):
    """No disk, no memory, no network, or a package that is not installed."""

    exit_code = 5


class GateError(EffxferError):
    """A result that is not good enough to ship."""

    exit_code = 6


class LockedError(EffxferError):
    """Another process works in the same directory."""

    exit_code = 7


def missing_package(package: str, extra: str, purpose: str) -> ResourceError:
    """Say which `pip install` brings an optional package.

    >>> print(missing_package("pyarrow", "table", "Parquet tables"))
    Parquet tables need the package pyarrow
      hint: pip install 'effxfer[table]'
    """
    return ResourceError(f"{purpose} need the package {package}", f"pip install 'effxfer[{extra}]'")


def did_you_mean(name: str, known: object) -> str:
    """Give ` (did you mean 'x'?)` for the nearest of `known`, or nothing.

    >>> did_you_mean("epoch", ["epochs", "seed"])
    " (did you mean 'epochs'?)"
    """
    from difflib import get_close_matches

    near = get_close_matches(name, [str(k) for k in known], n=3, cutoff=0.6)  # type: ignore[attr-defined]
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def short(text: str, most: int = 200) -> str:
    """Cut a text that is too long for a sentence.

    >>> short("epochs"), short("9" * 900, 12)
    ('epochs', '999999999999 ...')
    """
    return text if len(text) <= most else f"{text[:most]} ..."


def joined(mistakes: Sequence[str], most: int = 20) -> str:
    """Put sentences together, and only count those that nobody would read.

    >>> joined(["a is required", "b is required", "c is required"], 2)
    'a is required; b is required; and 1 more'
    """
    more = [f"and {len(mistakes) - most} more"] if len(mistakes) > most else []
    return "; ".join([*mistakes[:most], *more])
