import json
import os
import subprocess
import sys
import textwrap
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from effxfer.errors import LockedError
from effxfer.process.folder_lock import is_locked, lock_folder

START = "import sys, time; from pathlib import Path; from effxfer.process.folder_lock import lock_folder\n"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


HOLD = """
    with lock_folder(Path(sys.argv[1])):
        print('held', flush=True)
        time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", START + textwrap.dedent(HOLD), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_and_told_by_whom(tmp_path, holder):
    assert is_locked(tmp_path)
    with pytest.raises(LockedError, match=f"process {holder.pid} on ") as caught, lock_folder(tmp_path):
        pass
    assert caught.value.exit_code == 7


def test_a_lock_dies_with_its_process(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert not is_locked(tmp_path)
    with lock_folder(tmp_path):
        assert json.loads((tmp_path / ".lock.json").read_text())["pid"] == os.getpid()


def test_looking_does_not_disturb_who_wants_to_work(tmp_path):
    (tmp_path / ".lock").touch()
    watcher = get_context("fork").Process(target=_look_without_end, args=(tmp_path,))
    watcher.start()
    try:
        for _ in range(20):
            with lock_folder(tmp_path):
                time.sleep(0.002)
    finally:
        watcher.kill()
        watcher.join()


def _look_without_end(folder: Path) -> None:
    while True:
        is_locked(folder)
        time.sleep(0.001)


def test_an_error_in_the_block_frees_the_lock_and_is_not_mistaken_for_one_of_the_lock(tmp_path):
    from filelock import Timeout

    with pytest.raises(Timeout), lock_folder(tmp_path):
        raise Timeout("of something else")
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "none")


def test_a_lock_leaves_nothing_where_nothing_was_written(tmp_path):
    with pytest.raises(SystemExit), lock_folder(tmp_path / "runs" / "mine"):
        raise SystemExit
    assert names(tmp_path) == []
    (tmp_path / "mine").mkdir()
    with lock_folder(tmp_path / "mine"):
        pass
    assert names(tmp_path) == ["mine"]
    with lock_folder(tmp_path / "other"):
        (tmp_path / "other" / "result").touch()
    assert names(tmp_path / "other") == [".lock", "result"]


@pytest.mark.parametrize("content", [b"[]", b"\xff", b"", b'"x"'])
def test_a_holder_that_cannot_be_read_is_unknown(tmp_path, content):
    with lock_folder(tmp_path):
        (tmp_path / ".lock.json").write_bytes(content)
        code = START + "try: lock_folder(Path(sys.argv[1])).__enter__()\nexcept Exception as error: print(error)"
        refused = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True)
        assert "is in use by process ? on ? since ?" in refused.stdout
