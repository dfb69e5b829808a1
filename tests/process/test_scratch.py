"""Temporary folders: gone after the block, and after a kill with the next one."""

import ast
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from effxfer.errors import ResourceError
from effxfer.process import scratch
from effxfer.process.scratch import scratch_folder, user_lock_folder
from tests.package_source import complaints, tree

OWN = {
    "scratch.py",
    "search.py",
    "external_data.py",
}  # the last two make theirs beside their result, where `remove_abandoned` finds them
KILLED = """
import os, signal
from effxfer.process.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "features.npy").write_bytes(b"x")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def age(folder, seconds=2 * scratch.MIN_AGE):
    then = folder.stat().st_mtime - seconds
    os.utime(folder, (then, then))


def test_a_folder_is_gone_after_its_block(place):
    with scratch_folder() as folder:
        (folder / "a").mkdir()
        assert folder.parent == place
    assert list(place.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_what_a_killed_process_left_is_removed_by_the_next(place):
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
    left = Path(done.stdout.strip())
    assert (left / "features.npy").is_file()
    with scratch_folder():
        assert left.is_dir(), "it may be so new that its lock is not held yet"
    age(left)
    with scratch_folder():
        assert not left.exists()


def test_what_is_in_use_or_nobodys_stays(place):
    (place / "effxfer-notes").mkdir()
    other = place / "elsewhere"
    (other / "inner").mkdir(parents=True)
    (other / ".lock").touch()
    (place / "effxfer-link").symlink_to(other)
    with scratch_folder() as folder:
        for one in (folder, place / "effxfer-notes", other):
            age(one)
        with scratch_folder():
            assert folder.is_dir()
            assert (place / "effxfer-notes").is_dir()
            assert (other / "inner").is_dir()


def test_a_folder_of_locks_is_shared_and_ones_own(place):
    folder = user_lock_folder("a")
    assert (folder, folder.stat().st_mode & 0o777) == (user_lock_folder("a"), 0o700)
    folder.rmdir()
    folder.symlink_to(place)
    with pytest.raises(ResourceError, match="another user's"):
        user_lock_folder("a")


def test_no_other_file_makes_temporary_ones():
    """A TemporaryFile has no name and ends with its process; others need a sweep."""
    assert {Path(name).name for name in complaints(temporary_ones)} <= OWN


def temporary_ones(file):
    imports = [ast.unparse(node) for node in ast.walk(tree(file)) if isinstance(node, ast.Import | ast.ImportFrom)]
    return [line for line in imports if "tempfile" in line and line != "from tempfile import TemporaryFile"]
