"""Checks of the output directory: a stage never overwrites foreign files, and never writes into a data set."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from effxfer.artifact import MANIFEST, WEIGHTS, read_manifest
from effxfer.data.settings import DataSettings
from effxfer.errors import ModelFileError, ResourceError, SettingsError
from effxfer.files import PARTIAL, REPLACED
from effxfer.stages.settings.common import FILES
from effxfer.train.settings import METRICS

HINT = "give another `out`, such as runs/mine"
SYSTEM = ("/dev", "/proc", "/sys")
MEMORY = "/dev/shm"  # a disk as any other
LONGEST_NAME = 255 - len(f"{PARTIAL}{2**22}{REPLACED}")  # bytes; what is written has a longer name at first
LONGEST_PATH = 4096 - 512  # bytes; what lies in it has a longer path


def check_directory(out: Path) -> None:
    """Refuse a path that cannot become a model directory, before anything is read or computed.

    Raises:
        SettingsError: If it is the home or current directory, since a model directory is replaced as a whole, or if
            `check_folder` refuses it.
    """
    check_folder(out)
    place = out.resolve()
    with suppress(RuntimeError, OSError):  # there may be no home, and no current directory
        protected = {Path.cwd().resolve(): "the current directory", Path.home().resolve(): "your home directory"}
        if place in protected:
            problem = f"{out} is {protected[place]}, and a model directory is replaced as a whole"
            raise SettingsError(problem, f"give a folder in it, such as {out / 'mine'}", code="E211")


def check_folder(out: Path) -> None:
    """Refuse a path that cannot be an output folder.

    Raises:
        SettingsError: If it is a file, a dangling link, the root, too long, below a file, or in a system folder.
    """
    _check_place(out)
    if out.exists() and not out.is_dir():
        raise SettingsError(f"{out} is not a directory", HINT, code="E211")


def check_file_in(folder: Path, name: str) -> Path:
    """Return the path of an output file in a folder, after checking both.

    Raises:
        SettingsError: If `check_folder` or `check_file` refuses a path.
        ResourceError: If the file cannot be written.
    """
    check_folder(folder)
    check_file(folder / name)
    return folder / name


def check_file(out: Path | None) -> None:
    """Refuse a path that cannot be an output file, before anything is computed; None is no file.

    Raises:
        SettingsError: If it is a directory, a device, a pipe, a dangling link, too long, or in a system folder.
        ResourceError: If it cannot be written.
    """
    if out is None:
        return
    _check_place(out)
    if out.is_dir():
        raise SettingsError(f"{out} is a directory", "name a file in it", code="E211")
    if out.exists() and not out.is_file():
        raise SettingsError(f"{out} is no regular file", "give another `out`", code="E211")
    check_writable(out)


def check_writable(out: Path) -> None:
    """Refuse a path whose nearest existing parent folder is read-only.

    Raises:
        ResourceError: If that folder cannot be written.
    """
    above = _nearest_existing(out.resolve())
    # Both: without X a folder can be listed, but nothing made in it.
    if not os.access(above, os.W_OK | os.X_OK):
        raise ResourceError(f"cannot write {out}: {above} cannot be written", "give another `out`")


def _check_place(out: Path) -> None:
    if long := [part for part in out.parts if len(os.fsencode(part)) > LONGEST_NAME]:
        problem = f"{long[0][:20]}... is a name of {len(long[0])} letters"
        raise SettingsError(problem, f"give an `out` of at most {LONGEST_NAME} bytes a name", code="E211")
    if len(os.fsencode(out.absolute())) > LONGEST_PATH:
        raise SettingsError(f"{str(out)[:40]}... is a path too long", HINT, code="E211")
    if out.is_symlink() and not out.exists():
        raise SettingsError(f"{out} is a link that leads nowhere", f"make {out.readlink()}, or {HINT}", code="E211")
    place = out.resolve()
    if len(place.parts) == 1:
        raise SettingsError(f"{out} is the root", HINT, code="E211")
    written = out.absolute()  # a link there, such as /dev/stdout, would be replaced itself
    if any(p.is_relative_to(system) and not p.is_relative_to(MEMORY) for p in (place, written) for system in SYSTEM):
        raise SettingsError(f"{out} lies in a place of the system, which keeps no files", HINT, code="E211")
    above = _nearest_existing(place)
    if not above.is_dir():
        raise SettingsError(f"{out} lies below {above}, which is a file", HINT, code="E211")


def _nearest_existing(place: Path) -> Path:
    """Return the nearest existing parent of a path."""
    return next(above for above in place.parents if above.exists())


def keep_out_of(out: Path, data: Sequence[DataSettings]) -> None:
    """Refuse to write into a data set.

    Raises:
        SettingsError: If the output directory is a source of images, or lies below one.
    """
    sources = [*data, *(one.target for one in data if one.target)]
    for source in (Path(one.source).expanduser() for one in sources):
        if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
            text = f"{out} lies inside the data set {source}, where it would be taken for a class"
            raise SettingsError(text, "give an `out` elsewhere", code="E211")


def check_ours(out: Path) -> None:
    """Refuse to replace files that effxfer did not write, even with `force`.

    Raises:
        SettingsError: If the output directory contains a file that its manifest does not list.
    """
    if not out.exists():
        return
    listed = {MANIFEST, WEIGHTS, METRICS, *FILES.values()}
    with suppress(ModelFileError):
        listed |= set(read_manifest(out)["files"])
    foreign = [path for path in sorted(out.rglob("*")) if str(path.relative_to(out)) not in listed]
    if foreign or not out.is_dir():
        problem = f"holds {foreign[0].name}, which effxfer did not write" if foreign else "is not a directory"
        raise SettingsError(f"{out} {problem}", "give another `out`", code="E211")
