"""All errors for users, with their exit codes.

* EffxferError            1
  x SettingsError         2   an unknown, missing or impossible setting
  x DataError             3   images, labels or splits that cannot be trained on
  x ModelFileError        4   weights, an artifact or an ONNX file that is absent, altered or does not fit
  x ResourceError         5   no disk, no memory, no network, a missing package
  x GateError             6   a result that is not good enough to ship
  x LockedError           7   another process works in the same directory

The library raises these; only the command line turns them into exit codes.
"""

import re
from collections.abc import Sequence

from effxfer.runtime.printing import printable


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
        problem = printable(self.problem)
        head = f"{self.code} {problem}" if self.code else problem
        return f"{head}\n  hint: {printable(self.hint)}" if self.hint else head


class SettingsError(EffxferError):
    """An unknown, missing or impossible setting."""

    # The number of wrong usage in argparse, Click and most shells' commands; 3 to 7 are our own.
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


def error_of_code(problem: str, hint: str, code: str) -> EffxferError:
    """Return the error of a code: settings for `E2xx`, data for `E3xx`, model files for others."""
    classes: dict[str, type[EffxferError]] = {"2": SettingsError, "3": DataError}
    return classes.get(code[1:2], ModelFileError)(problem, hint, code=code)


def missing_package(package: str, extra: str, purpose: str) -> ResourceError:
    """Return the error for a missing optional package, with the command that installs it.

    >>> print(missing_package("pyarrow", "table", "Parquet tables"))
    Parquet tables need the package pyarrow
      hint: pip install 'effxfer[table]'
    """
    return ResourceError(f"{purpose} need the package {package}", f"pip install 'effxfer[{extra}]'")


# Messages of torch, oneDNN, numpy, C++, threads and the loader of shared libraries.
HUNGRY = (
    "can't allocate memory", "cannot allocate memory", "bad_alloc", "bad allocation", "unable to allocate",
    "out of memory", "failed to map segment", "failed to allocate", "can't start new thread",
    "could not execute a primitive",  # oneDNN's only words for it
)  # fmt: skip
UNITS = {"": 1, "bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50, "EiB": 2**60}


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, of a GPU or of the machine; False for an `EffxferError`.

    >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    True
    """
    text = str(error).lower()
    hungry = isinstance(error, MemoryError) or any(words in text for words in HUNGRY)
    # Our own errors have found their words already, which may quote these.
    return hungry and not isinstance(error, EffxferError)


def requested_bytes(error: BaseException) -> int:
    """Return the bytes of the failed allocation; 0 if the error does not state them.

    >>> requested_bytes(MemoryError("Unable to allocate 2.00 GiB for an array with shape (2,) and data type float32"))
    2147483648
    """
    match = re.search(rf"allocate ([\d.]+) ({'|'.join(filter(None, UNITS))})", str(error))
    return int(float(match[1]) * UNITS[match[2]]) if match else 0


def memory_full(error: BaseException) -> ResourceError:
    """Return the error for a full memory, with the size of the failed allocation and a remedy."""
    if library := re.search(r"([^/\s]+): failed to map segment", str(error)):
        # Measured: 3.3 GB of address space for torch 2.14, 3.6 GB with torchvision and timm.
        text = f"memory is too small to load {library[1]}"
        return ResourceError(
            text, "raise the limit (`ulimit -v`, the container's); torch alone takes 4 GB of address space"
        )
    size = requested_bytes(error)
    text = "the GPU's memory is full" if type(error).__name__ == "OutOfMemoryError" else "the memory is full"
    text += f": {size / 1e9:,.3f} GB more were requested" if size else ""
    return ResourceError(text, "use smaller batches (`options.batch=16`) or images, or raise the memory limit")


def did_you_mean(name: str, names: object) -> str:
    """Return ` (did you mean 'x'?)` with the nearest of `names`, or an empty string.

    >>> did_you_mean("epoch", ["epochs", "seed"])
    " (did you mean 'epochs'?)"
    """
    from difflib import get_close_matches

    # difflib's own defaults: at 0.6 a transposed or missing letter still matches, another word does not.
    near = get_close_matches(name, [str(k) for k in names], n=3, cutoff=0.6)  # type: ignore[attr-defined]
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def shorten(text: str, limit: int = 200) -> str:
    """Shorten a text that is too long for a sentence.

    >>> shorten("epochs"), shorten("9" * 900, 12)
    ('epochs', '999999999999 ...')
    """
    # 200: chosen; two lines of a terminal are enough to recognise what was passed.
    return text if len(text) <= limit else f"{text[:limit]} ..."


def join_sentences(mistakes: Sequence[str], limit: int = 20) -> str:
    """Join sentences, and only count those beyond the limit.

    >>> join_sentences(["a is required", "b is required", "c is required"], 2)
    'a is required; b is required; and 1 more'
    """
    # 20: chosen; a screen. A table of 100,000 wrong rows would fill the log.
    suffix = [f"and {len(mistakes) - limit} more"] if len(mistakes) > limit else []
    return "; ".join([*mistakes[:limit], *suffix])
