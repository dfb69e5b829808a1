"""Children of a pool: their progress, their errors, and their end."""

from pathlib import Path

import pytest

from effxfer import progress
from effxfer.errors import GateError, ResourceError
from effxfer.process.children import PACKAGE
from effxfer.process.pool import ChildPool
from effxfer.process.pool_child import error_from_json, error_to_json
from tests.process.test_children import alive, wait_for

SCRIPT = """
import os, sys, time
from pathlib import Path
from effxfer import progress
from effxfer.errors import GateError
from effxfer.process.pool_child import serve

def work(request):
    what = request["what"]
    if what == "fail":
        raise GateError("too slow", "wait", code="E601")
    if what == "bug":
        raise ZeroDivisionError("by zero")
    if what == "die":
        print("last words", flush=True)
        os.kill(os.getpid(), 9)
    if what == "sleep":
        Path(request["file"]).write_text(str(os.getpid()))
        time.sleep(600)
    with progress.bar("count", 3) as advance:
        advance(1, "one")
        advance(2, os.environ["OMP_NUM_THREADS"])
    progress.remark("a remark")
    print("a line of a library")

serve(Path(sys.argv[1]), work)
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE.parent))
    file = tmp_path / "work.py"
    file.write_text(SCRIPT)
    return file


@pytest.fixture
def pool(tmp_path):
    (tmp_path / "pool").mkdir()
    with ChildPool(tmp_path / "pool", size=2, threads=3) as opened:
        yield opened


def test_children_report_progress_errors_and_death(script, pool):
    bars, remarks = {}, []

    class Bar:
        def __init__(self, label, total):
            self.label = label
            bars[label] = [total]

        def __enter__(self):
            return lambda steps, text: bars[self.label].append(steps)

        def __exit__(self, *_):
            bars[self.label].append("closed")

    with progress.show_through(Bar, remarks.append):
        for what in ("count", "fail", "bug", "die"):
            pool.start(what, script, {"what": what})
        ended = {outcome.name: outcome.error for outcome in (pool.wait() for _ in range(4))}
    total, *steps, closed = bars["count: count"]
    assert (total, sum(steps), closed) == (3, 3, "closed")
    assert {"count: a remark", "count: a line of a library"} <= set(remarks)
    assert ended["count"] is None
    assert isinstance(ended["fail"], GateError)
    assert (ended["fail"].problem, ended["fail"].hint, ended["fail"].code) == ("too slow", "wait", "E601")
    assert (type(ended["bug"]).__name__, str(ended["bug"])) == ("ZeroDivisionError", "by zero")
    assert isinstance(ended["die"], ResourceError)
    assert "killed by signal 9: last words" in ended["die"].problem
    assert "run the same command again" in ended["die"].hint


def test_stopped_children_end(script, tmp_path):
    files = [tmp_path / name for name in ("first", "second")]
    (tmp_path / "pool").mkdir()
    with ChildPool(tmp_path / "pool", size=2, threads=1) as pool:
        for file in files:
            pool.start(file.name, script, {"what": "sleep", "file": str(file)})
        pids = [int(wait_for(lambda file=file: file.is_file() and file.read_text())) for file in files]
        pool.stop(["first", "unknown"])
        assert not alive(pids[0])
        assert alive(pids[1])
    assert not alive(pids[1])
    assert not any(file.name.endswith("outcome.json") for file in Path(tmp_path / "pool").iterdir())


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("bad allocation")])
def test_a_full_memory_is_named(error):
    back = error_from_json(error_to_json(error))
    assert isinstance(back, ResourceError)
    assert "memory is full" in back.problem


def test_an_error_of_the_system_keeps_its_name_and_words():
    error = PermissionError(13, "Permission denied", "there")
    back = error_from_json(error_to_json(error))
    assert isinstance(back, OSError)
    assert (type(back).__name__, str(back)) == ("PermissionError", str(error))


def test_an_error_of_the_name_of_no_error_of_ours_is_none_of_ours():
    class GateError(Exception):
        pass

    back = error_from_json(error_to_json(GateError("x")))
    assert type(back).__mro__[1] is RuntimeError
    assert "GateError: x" in back.__notes__[0]
