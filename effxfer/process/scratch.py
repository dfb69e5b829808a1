"""Temporary folders; the remains of killed processes are removed when the next folder is created."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from effxfer.errors import ResourceError
from effxfer.process.folder_lock import is_locked

# A glob in a shared folder: no other program's names may match it.
PREFIX = "effxfer-"
LOCK = ".lock"
MIN_AGE = 60.0  # seconds; a younger folder may not be locked yet by the process that created it


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a locked folder in the system's temporary directory, and remove it after the block."""
    from filelock import FileLock

    with TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder:
        path = Path(folder)
        _remove_dead_folders(path)
        with FileLock(path / LOCK):
            yield path


def user_lock_folder(name: str) -> Path:
    """Return a folder for locks that all processes of this user on this machine share; it stays.

    Args:
        name: What the locks are for.

    Raises:
        ResourceError: If another user made it.
    """
    folder = Path(gettempdir()) / f"{PREFIX}locks-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        raise ResourceError(f"{folder} is another user's", "set TMPDIR to a directory of your own")
    return folder


def _remove_dead_folders(folder: Path) -> None:
    """Remove the folders of dead processes beside `folder`: those of the same user that are not locked."""
    own_stat = folder.stat()
    for lock_file in Path(gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError):
            status = lock_file.parent.lstat()
            # Of another user, or opened to others, it is none that `TemporaryDirectory` made here (mode 700).
            same_owner = status.st_uid == own_stat.st_uid and status.st_mode == own_stat.st_mode
            if same_owner and status.st_mtime < own_stat.st_mtime - MIN_AGE and not is_locked(lock_file.parent):
                shutil.rmtree(lock_file.parent, ignore_errors=True)
