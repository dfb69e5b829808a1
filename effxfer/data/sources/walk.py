"""Walk a folder for image files and folders, through links but around loops, and report problems."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from effxfer.data.listing import Finding, Severity
from effxfer.errors import DataError
from effxfer.runtime.images.names import is_image, is_litter

# Chosen: no data set is near it; a path of Linux (4,096 bytes) holds 2,000 levels, more than Python recurses.
MAX_DEPTH = 100
# Endless or blocking files; their devices are known by number, also behind a bind mount.
KERNELS = ("/proc", "/sys")
PACKED = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst")
HINT = "give a folder of class folders, a .csv, .tsv or .parquet table"

Parts = tuple[str, ...]


class Tree(NamedTuple):
    """The content of a root: image files and folders as path parts, and findings."""

    files: list[Parts]
    folders: list[Parts]
    findings: list[Finding]


def walk(root: Path) -> Tree:
    """Find image files below `root`, through links but around loops, without hidden entries and litter.

    Entries that cannot be read become findings, except the root itself.

    Raises:
        DataError: If the root does not exist, is not a folder or is a kernel file system such as `/proc` (`E310`), or
            cannot be read (`E319`).
    """
    if not os.path.isdir(root):  # noqa: PTH112 (never raises)
        raise _no_folder_error(root)
    try:
        with os.scandir(root) as entries:
            next(entries, None)
        walker = _Walker(root)
    except OSError as error:
        hint = "change its permissions, or name another folder"
        raise DataError(f"{root} cannot be read: {error.strerror}", hint, code="E319") from None
    if walker.is_kernels(root):
        raise DataError(f"{root} belongs to the running system and holds no images", HINT, code="E310")
    walker.enter(root)
    return Tree(sorted(walker.files), sorted(walker.folders), walker.findings)


def _no_folder_error(root: Path) -> DataError:
    if not os.path.lexists(root):
        return DataError(f"{root} does not exist", HINT, code="E310")
    if root.suffix.lower() in PACKED:
        return DataError(f"{root} is an archive", "unpack it, and give the resulting folder", code="E310")
    if not os.path.exists(root):  # noqa: PTH110 (never raises)
        return DataError(f"{root} is a dangling link", HINT, code="E310")
    problem = "is a file" if os.path.isfile(root) else "is no regular file and no folder"  # noqa: PTH113 (never raises)
    return DataError(f"{root} {problem}", HINT, code="E310")


class _Walker:
    """Collects files; links to folders wait until every real folder has been visited."""

    def __init__(self, root: Path) -> None:
        self.root = os.path.realpath(root)
        self.kernels = {os.stat(place).st_dev for place in KERNELS if os.path.ismount(place)}  # noqa: PTH116
        self.visited: set[tuple[int, int]] = set()
        self.links: list[tuple[Path, Parts]] = []
        self.files: list[Parts] = []
        self.folders: list[Parts] = []
        self.findings: list[Finding] = []

    def is_kernels(self, folder: Path) -> bool:
        """Whether a folder belongs to a kernel file system, such as `/proc`."""
        return folder.stat().st_dev in self.kernels

    def enter(self, root: Path) -> None:
        self._visit(root, ())
        while self.links:
            # After all real folders, so that each folder is listed under its real name.
            link, parts = self.links.pop(0)
            try:
                self._enter_link(link, parts)
            except OSError as error:
                self._note_unreadable(parts, error)

    def _enter_link(self, link: Path, parts: Parts) -> None:
        if _inode(link) in self.visited:
            self._note("W315", "warning", parts, "link to a folder that is already listed, left out")
        elif Path(self.root).is_relative_to(os.path.realpath(link)):
            self._note("W315", "warning", parts, "link to a folder above the data folder, left out")
        elif self.is_kernels(link):
            self._note("W314", "note", parts, "link to the running system ignored")
        else:
            self._warn_outside(link, parts)
            self.folders.append(parts)
            self._visit(link, parts)

    def _visit(self, folder: Path, parts: Parts) -> None:
        """List a folder and all folders below it, in a loop: they may be nested deeper than the recursion limit."""
        start, queue = len(self.findings), [(folder, parts)]
        while queue:
            current, current_parts = queue.pop()
            try:
                self.visited.add(_inode(current))
                with os.scandir(current) as entries:
                    ordered = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self._note_unreadable(current_parts, error)
            else:
                queue += self._inner_folders(ordered, current_parts)
        self.findings[start:] = sorted(self.findings[start:], key=lambda finding: finding.path.split("/"))

    def _inner_folders(self, entries: "Iterable[os.DirEntry[str]]", parts: Parts) -> Iterator[tuple[Path, Parts]]:
        for entry in entries:
            inner = (*parts, entry.name)
            try:
                if self._is_folder(entry, inner):
                    yield Path(entry.path), inner
            except OSError as error:
                self._note_unreadable(inner, error)

    def _is_folder(self, entry: "os.DirEntry[str]", parts: Parts) -> bool:
        """Record an entry, and return whether it is a folder to visit."""
        if is_litter(entry.name):
            self._litter(entry, parts)
        elif entry.is_symlink():
            self._link(Path(entry.path), parts)
        elif entry.is_dir():
            return self._folder(Path(entry.path), parts)
        else:
            self._file(parts)
        return False

    def _litter(self, entry: "os.DirEntry[str]", parts: Parts) -> None:
        named = not entry.name.startswith(".")
        if entry.is_dir(follow_symlinks=False):
            text = "folder of a system or a tool ignored" if named else "hidden folder ignored"
            self._note("W314", "note" if named else "warning", parts, text)
        elif is_image(entry.name):
            self._note("W314", "note", parts, "hidden file ignored")

    def _folder(self, path: Path, parts: Parts) -> bool:
        # A folder `x.jpg` with folders in it is more likely a class of that name.
        if is_image(parts[-1]) and not _has_folders(path):
            self._note("W319", "note", parts, "folder with the name of an image ignored")
            return False
        if self.is_kernels(path):
            self._note("W314", "note", parts, "folder of the running system ignored")
            return False
        if len(parts) > MAX_DEPTH:
            text = f"folders are nested more than {MAX_DEPTH} deep: deeper ones are not listed"
            self._note("E315", "error", parts, text, "move it up, or remove it")
            return False
        self.folders.append(parts)
        return True

    def _link(self, path: Path, parts: Parts) -> None:
        if os.path.isdir(path):  # noqa: PTH112 (never raises)
            self.links.append((path, parts))
        elif os.path.exists(path):  # noqa: PTH110 (never raises; irregular files are reported when they are read)
            self._warn_outside(path, parts)
            self._file(parts)
        elif is_image(parts[-1]):
            hint = "restore what it points to, or remove it"
            self._note("E316", "error", parts, "dangling link", hint)
        else:
            self._note("W316", "warning", parts, "dangling link ignored")

    def _file(self, parts: Parts) -> None:
        if is_image(parts[-1]):
            self.files.append(parts)
        else:
            self._note("W309", "note", parts, "not an image by its name, ignored")

    def _warn_outside(self, path: Path, parts: Parts) -> None:
        if not Path(os.path.realpath(path)).is_relative_to(self.root):
            self._note("W317", "warning", parts, "link to outside of the data folder, followed")

    def _note_unreadable(self, parts: Parts, error: OSError) -> None:
        reason = "no permission" if isinstance(error, PermissionError) else error.strerror
        self._note(
            "E319", "error", parts, f"folder cannot be read ({reason})", "change its permissions, or move it away"
        )

    def _note(self, code: str, severity: Severity, parts: Parts, text: str, hint: str = "") -> None:
        self.findings.append(Finding(code=code, severity=severity, path="/".join(parts), text=text, hint=hint))


def _has_folders(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.is_dir() for entry in entries)


def _inode(folder: Path) -> tuple[int, int]:
    facts = folder.stat()
    return facts.st_dev, facts.st_ino
