"""What must survive survives: failing writers, full disks, kill -9, two writers at once."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer import files, progress
from effxfer.errors import ResourceError
from effxfer.files import (
    PARTIAL,
    REPLACED,
    append_line,
    digest,
    read_lines,
    read_sealed,
    remove_abandoned,
    reserve,
    sha256,
    write_atomic,
    write_directory,
    write_sealed,
)

LONG = {"timeout": 60, "check": False, "capture_output": True, "text": True}
DEAD = 2**22 + 1


def python(code: str, *words: object) -> subprocess.CompletedProcess:
    start = "import os, resource, signal, sys, time; from pathlib import Path; from effxfer.files import *\n"
    return subprocess.run([sys.executable, "-c", start + textwrap.dedent(code), *map(str, words)], **LONG)  # noqa: PLW1510 - in LONG


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(plain, plain)
def test_digests_are_equal_where_values_are(one, other):
    assert (digest(one) == digest(other)) == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


@given(st.dictionaries(st.text(max_size=3), plain, min_size=2, max_size=5))
def test_the_order_of_keys_does_not_matter(table):
    assert digest(table) == digest(dict(reversed(table.items())))


@pytest.mark.parametrize(
    "content", [b"\0\xff", "grün", lambda scratch: scratch.write_bytes(b"made")], ids=["bytes", "text", "writer"]
)
def test_a_file_is_replaced_as_a_whole(tmp_path, content):
    file = tmp_path / "new" / "folder" / "x"
    write_atomic(file, "old")
    assert write_atomic(file, content) == file
    expected = {bytes: content, str: "grün".encode()}.get(type(content), b"made")
    assert file.read_bytes() == expected
    assert sha256(file) == hashlib.sha256(expected).hexdigest()
    assert names(tmp_path / "new" / "folder") == ["x"]


def test_a_failing_writer_leaves_the_old_file(tmp_path):
    def fail(scratch):
        scratch.write_text("half")
        raise ValueError

    file = write_atomic(tmp_path / "x", "old")
    with pytest.raises(ValueError):
        write_atomic(file, fail)
    assert (file.read_text(), names(tmp_path)) == ("old", ["x"])


FULL = """
    from effxfer.errors import ResourceError
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        {}
    except ResourceError as error:
        print(error)
        sys.exit(5)
"""


@pytest.mark.parametrize(
    "write",
    [
        "write_atomic(Path(sys.argv[1]) / 'x', bytes(100_000))",
        "write_atomic(Path(sys.argv[1]) / 'x', lambda scratch: scratch.write_bytes(bytes(100_000)))",
        "append_line(Path(sys.argv[1]) / 'x', {'long': 'x' * 100_000})",
    ],
)
def test_a_full_disk_is_named_and_the_old_file_is_intact(tmp_path, write):
    old = write_atomic(tmp_path / "x", json.dumps({"a": 1}) + "\n").read_bytes()
    done = python(FULL.format(write), tmp_path)
    assert done.returncode == 5, done.stderr
    assert "cannot write" in done.stdout
    assert "MB free" in done.stdout
    assert read_lines(tmp_path / "x") == [{"a": 1}]
    assert (tmp_path / "x").read_bytes().startswith(old)
    assert names(tmp_path) == ["x"]


def test_a_full_disk_leaves_the_old_directory(tmp_path):
    with write_directory(tmp_path / "out") as scratch:
        (scratch / "a").write_text("old")
    block = "with write_directory(Path(sys.argv[1]) / 'out') as scratch: (scratch / 'a').write_bytes(bytes(100_000))"
    done = python(FULL.format(block), tmp_path)
    assert done.returncode == 5, done.stderr
    assert ((tmp_path / "out" / "a").read_text(), names(tmp_path)) == ("old", ["a", "out"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ResourceError, match="cannot write"):
        write_atomic(tmp_path / "x", "new")
    tmp_path.chmod(0o700)


def test_a_name_too_long_is_named(tmp_path):
    with pytest.raises(ResourceError, match="File name too long"):
        write_atomic(tmp_path / ("x" * 300), "new")


KILLED = """
    def die(*_): os.kill(os.getpid(), signal.SIGKILL)
    folder = Path(sys.argv[1])
    {}
"""


@pytest.mark.parametrize(
    "write",
    [
        "write_atomic(folder / 'x', lambda scratch: (scratch.write_text('half'), die()))",
        "Path.replace = die; write_atomic(folder / 'x', 'whole')",
    ],
    ids=["in the middle", "before the rename"],
)
def test_kill_9_leaves_the_old_file_and_litter_that_is_swept(tmp_path, write):
    write_atomic(tmp_path / "x", "old")
    assert python(KILLED.format(write), tmp_path).returncode == -signal.SIGKILL
    assert (tmp_path / "x").read_text() == "old"
    assert len(names(tmp_path)) == 2
    assert [path.name.startswith(PARTIAL) for path in remove_abandoned(tmp_path)] == [True]
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_kill_9_leaves_one_whole_directory(tmp_path, renames):
    """Between the two renames there is no directory by that name; the sweep puts the old one back."""
    with write_directory(tmp_path / "out") as scratch:
        (scratch / "a").write_text("old")
    code = """
        real, left = Path.rename, [int(sys.argv[2])]
        def rename(self, target):
            if not left[0]: die()
            left[0] -= 1
            return real(self, target)
        Path.rename, shutil.rmtree = rename, lambda path, **_: die() if Path(path).exists() else None
        with write_directory(folder / 'out') as scratch:
            (scratch / 'a').write_text('new')
    """
    done = python("import shutil\n" + textwrap.dedent(KILLED).format(textwrap.dedent(code)), tmp_path, renames)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert remove_abandoned(tmp_path, deep=False)
    assert names(tmp_path) == ["a", "out"]
    assert (tmp_path / "out" / "a").read_text() == ("new" if renames == 2 else "old")


def test_a_directory_appears_only_whole(tmp_path):
    with pytest.raises(KeyError), write_directory(tmp_path / "deep" / "out") as scratch:
        (scratch / "a").write_text("half")
        raise KeyError
    assert names(tmp_path) == ["deep"]
    with write_directory(tmp_path / "deep" / "out") as scratch:
        (scratch / "sub").mkdir()
        (scratch / "sub" / "a").write_text("whole")
        assert not (tmp_path / "deep" / "out").exists()
    assert names(tmp_path) == ["a", "deep", "out", "sub"]


def test_a_failed_swap_puts_the_old_directory_back(tmp_path, monkeypatch):
    with write_directory(tmp_path / "out") as scratch:
        (scratch / "a").write_text("old")
    real, calls = Path.rename, []

    def rename(self, target):
        calls.append(self)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(ResourceError), write_directory(tmp_path / "out") as scratch:
        (scratch / "a").write_text("new")
    assert (names(tmp_path), (tmp_path / "out" / "a").read_text()) == (["a", "out"], "old")


def test_a_sweep_spares_the_living_and_what_nobody_wrote(tmp_path):
    spared = [f"{PARTIAL}{os.getpid()}-x", f"{PARTIAL}mine", "x", f"{PARTIAL}-x"]
    swept = [f"{PARTIAL}{DEAD}-x", f"{PARTIAL}{DEAD}{REPLACED}x", f"{PARTIAL}{10**30}-y"]
    for name in spared + swept:
        (tmp_path / name).write_text("")
    (tmp_path / "sub").mkdir()
    below = tmp_path / "sub" / f"{PARTIAL}{DEAD}-z"
    below.write_text("")
    assert {path.name for path in remove_abandoned(tmp_path, deep=False)} == set(swept)
    assert below.exists()
    assert remove_abandoned(tmp_path) == [below]
    assert names(tmp_path) == sorted([*spared, "sub"])


rows = st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3), max_size=4)


@given(before=rows, after=rows, tear=st.integers(1, 30))
def test_a_torn_line_is_the_only_loss(tmp_path_factory, before, after, tear):
    file = tmp_path_factory.mktemp("journal") / "x.jsonl"
    for row in before:
        append_line(file, row)
    whole = file.read_bytes() if before else b""
    append_line(file, {"torn": "x" * 30})
    file.write_bytes(file.read_bytes()[: len(whole) + tear])
    assert read_lines(file) == before
    for row in after:
        append_line(file, row)
    assert read_lines(file) == before + after


def test_a_journal_that_is_absent_is_empty(tmp_path):
    assert read_lines(tmp_path / "none") == []


CONTENT = {"v": 1, "files": {"ä": ["1 2", "ab"]}}


def test_sealed_content_is_read_back(tmp_path):
    file = write_sealed(tmp_path / "new" / "x.json", CONTENT)
    assert read_sealed(file) == CONTENT
    assert json.loads(file.read_text())["content"] == CONTENT, "it is JSON for others, too"


def test_any_byte_changed_in_sealed_content_is_found(tmp_path):
    file = write_sealed(tmp_path / "x.json", CONTENT)
    data = file.read_bytes()
    for place in range(len(data)):
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert read_sealed(file) is None
    for cut in (b"", data[:30], data[:-1], data + b" "):
        file.write_bytes(cut)
        assert read_sealed(file) is None
    assert read_sealed(tmp_path / "none.json") is None
    assert read_sealed(tmp_path) is None


@pytest.mark.parametrize("make", [os.mkfifo, lambda file: file.symlink_to("/dev/zero"), Path.mkdir])
def test_what_is_no_regular_file_is_no_sealed_content_and_is_not_waited_for(tmp_path, make):
    make(tmp_path / "x.json")
    assert read_sealed(tmp_path / "x.json") is None


def test_reserved_room_is_there(tmp_path):
    with (tmp_path / "x").open("w+b") as stream:
        reserve(stream, 100_000)
        reserve(stream, 0)
        reserve(stream, 50_000)
    facts = (tmp_path / "x").stat()
    assert facts.st_size == 50_000
    assert facts.st_blocks * 512 >= 50_000


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EOPNOTSUPP])
def test_a_full_disk_is_an_error_and_a_disk_that_cannot_reserve_is_none(tmp_path, monkeypatch, number):
    def fail(*_args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with (tmp_path / "x").open("w+b") as stream:
        if number == errno.ENOSPC:
            with pytest.raises(OSError, match="No space left"):
                reserve(stream, 9)
        else:
            reserve(stream, 9)
            assert (tmp_path / "x").stat().st_size == 9


def test_the_hint_is_the_callers(tmp_path):
    with pytest.raises(ResourceError) as caught, files.name_disk_errors(tmp_path, "set THIS"):
        raise OSError(errno.EROFS, "Read-only file system")
    assert caught.value.hint == "set THIS"


def test_lines_that_cannot_be_read_are_left_out_and_told_of(tmp_path):
    said = []
    lines = [b'{"a": 1}', b"[]", b"\xff\xfe", b"{", b"[" * 100_000, b'{"a": 2}', b'{"torn']
    (tmp_path / "rows").write_bytes(b"\n".join(lines))
    with progress.show_through(lambda label, total: None, said.append):
        assert read_lines(tmp_path / "rows") == [{"a": 1}, {"a": 2}]
    assert said == [f"{tmp_path / 'rows'} is damaged: 4 of its 6 lines cannot be read and are left out"]
