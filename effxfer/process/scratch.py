"""Folders for what is needed for a while; what a killed process left of them, the next one that needs one removes."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from effxfer.files import is_locked

PREFIX = "effxfer-"
LOCK = ".lock"
NEW = 60.0  # seconds; within them a folder may not be locked yet by the process that has just made it


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder in the system's temporary directory that is removed after the block, and locked during it."""
    from filelock import FileLock

    with TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        _sweep(place)
        with FileLock(place / LOCK):
            yield place


def _sweep(own: Path) -> None:
    """Remove the folders of dead processes beside `own`: those of this user that nobody locks."""
    about = own.stat()
    for other in Path(gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError):
            there = other.parent.lstat()
            mine = there.st_uid == about.st_uid and there.st_mode == about.st_mode
            if mine and there.st_mtime < about.st_mtime - NEW and not is_locked(other.parent):
                shutil.rmtree(other.parent, ignore_errors=True)
