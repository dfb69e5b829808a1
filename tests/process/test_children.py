"""Children end with their parent and import nothing from the working directory; one file starts them."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from effxfer.benchmark.measure import cold_start, memory
from effxfer.benchmark.untrusted import vet
from effxfer.deploy.cpu import emulator
from effxfer.process import children
from tests.package_source import complaints, tree

ROOT = children.PACKAGE
PLANTED = ("effxfer", "numpy", "optuna", "torch", "onnx", "onnxruntime", "filelock", "json", "ctypes", "runpy")
SCRIPTS = [cold_start.CHILD, memory.CHILD, vet.CHILD, emulator.CHILD]
STARTS = {"os.fork", "os.forkpty", "os.system", "os.popen", "os.posix_spawn", "pty.spawn"}
FAMILIES = ("os.exec", "os.spawn", "subprocess.", "multiprocessing", "asyncio.create_subprocess")
NOT_PYTHON = {"deploy/bundle/tokenizer_check.py", "deploy/bundle/web_library.py"}


def started(parsed):
    for node in ast.walk(parsed):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if (name in STARTS or name.startswith(FAMILIES)) and not name.endswith("TimeoutExpired"):
                yield name
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable":
            yield "sys.executable"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None), *(alias.name for alias in node.names)]
            if "multiprocessing" in {str(name).split(".")[0] for name in names}:
                yield "multiprocessing"
            if isinstance(node, ast.ImportFrom) and node.module == "subprocess":
                yield "from subprocess"


def test_one_file_starts_processes():
    starting = complaints(lambda file: list(started(tree(file))))
    assert starting.keys() - NOT_PYTHON == {"process/children.py"}


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A working directory of modules that leave a file where they are imported."""
    for name in PLANTED:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / name)!r} + '.ran', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


@pytest.mark.parametrize("target", SCRIPTS, ids=lambda file: file.stem)
def test_nothing_is_imported_from_the_working_directory(planted, target):
    children.run(target, "{}", seconds=300)
    assert [file.name for file in planted.glob("*.ran")] == []


def test_a_worker_takes_effxfer_from_where_its_parent_has_it_and_nothing_else(planted):
    done = children.run("effxfer.search.workers.worker_pool", str(planted / "no"), str(os.getpid()), "1", seconds=300)
    assert [file.name for file in planted.glob("*.ran")] == []
    assert "job.json" in done.stderr.splitlines()[-1]
    assert f"{ROOT}{os.sep}search{os.sep}workers{os.sep}worker_pool.py" in done.stderr


def test_the_path_for_an_emulator_leaves_the_working_directory_out(planted, monkeypatch):
    monkeypatch.setattr(sys, "path", ["", str(planted), *sys.path])
    assert str(planted) not in children.interpreter()[1]["PYTHONPATH"].split(os.pathsep)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals")
@pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "looking"])
def test_a_child_ends_with_its_parent(tmp_path, kernel):
    busy = tmp_path / "busy.py"
    busy.write_text(
        "import os, pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "while True:\n    time.sleep(0.01)\n"
    )
    parent = tmp_path / "parent.py"
    here = "" if kernel else "children.BOOTSTRAP = pathlib.Path('first.py')\n"
    parent.write_text(
        f"import pathlib\nfrom effxfer.process import children\n{here}"
        "children.run(pathlib.Path('busy.py'), seconds=600)\n"
    )
    first = children.BOOTSTRAP.read_text().replace('sys.platform != "linux" or', "True or")
    assert first != children.BOOTSTRAP.read_text()
    (tmp_path / "first.py").write_text(first)
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    process = subprocess.Popen([sys.executable, "parent.py"], cwd=tmp_path, env=environment)
    pid = wait_for(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
    process.kill()
    process.wait()
    assert wait_for(lambda: not alive(int(pid)))


def wait_for(look):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.05)
    return None


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")
