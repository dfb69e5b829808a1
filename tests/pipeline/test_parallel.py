"""Steps that do not need each other run side by side; the results are those of a sequential run."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from effxfer.artifact import Artifact
from effxfer.errors import DataError, GateError, ResourceError, SettingsError
from effxfer.pipeline import parallel
from effxfer.pipeline import run as pipeline
from effxfer.pipeline.parallel import Schedule, check_jobs, module_folders, threads_per_job
from effxfer.pipeline.plan import read_plan
from effxfer.process.children import PACKAGE
from effxfer.process.folder_lock import is_locked
from effxfer.process.pool import Outcome
from effxfer.stages.runner.context import RunContext
from tests import plans
from tests.process.test_children import alive, wait_for

STAGE = """
[[stage]]
name = "{name}"
run = "finetune"
{source}
options.batch = 8
fit.epochs = {epochs}
fit.lr = 0.01
"""


def write(path, folder, *stages):
    """A pipeline of trainings, each given as (name, name of its source, epochs)."""
    texts = [
        STAGE.format(name=name, source=f'from = "{source}"' if source else "", epochs=epochs)
        for name, source, epochs in stages
    ]
    return plans.write(path, folder, plans.HEAD + "".join(texts))


class Script:
    """An executor whose work ends in a given order, at once."""

    def __init__(self, size, order, errors=()):
        self.size, self.order, self.errors = size, list(order), dict(errors)
        self.running, self.log = [], []

    def start(self, name, module, request):
        assert module == parallel.MODULE
        assert name.endswith(request["step"])
        self.running.append(name)
        self.log.append(f"+{name}")
        assert len(self.running) <= self.size

    def wait(self):
        name = next(name for name in self.order if name in self.running)
        self.running.remove(name)
        self.log.append(f"-{name}")
        return Outcome(name=name, error=self.errors.get(name))

    def stop(self, names):
        for name in names:
            self.running.remove(name)
            self.log.append(f"x{name}")


@pytest.fixture
def plan(tmp_path, folder):
    """Of five steps: a; b and c from a; d from b; e alone."""
    stages = ("a", "", 1), ("b", "a", 1), ("c", "a", 1), ("d", "b", 1)
    plan = read_plan(write(tmp_path / "mine.toml", folder, *stages, ("e", "a", 1)))
    return replace(plan, steps=(*plan.steps[:4], replace(plan.steps[4], source="")))


def schedule(plan, executor, monkeypatch, finished=()):
    monkeypatch.setattr(parallel, "Artifact", SimpleNamespace(load=lambda path: path.name))
    order = []
    made = Schedule(
        plan=plan, context=RunContext(out=Path("out")), executor=executor,
        load=lambda step, _: step.name if step.name in finished else None,
        tell=lambda step, _: order.append(step.name),
    )  # fmt: skip
    return made, order


def test_a_step_begins_when_what_it_needs_is_done(plan, monkeypatch):
    executor = Script(2, ["5-e", "1-a", "3-c", "2-b", "4-d"])
    made, order = schedule(plan, executor, monkeypatch)
    assert made.run() == ["1-a", "2-b", "3-c", "4-d", "5-e"]
    assert executor.log == ["+1-a", "+5-e", "-5-e", "-1-a", "+2-b", "+3-c", "-3-c", "-2-b", "+4-d", "-4-d"]
    assert order == ["e", "a", "c", "b", "d"]


def test_finished_steps_are_not_started(plan, monkeypatch):
    executor = Script(3, ["4-d", "5-e"])
    made, _ = schedule(plan, executor, monkeypatch, finished=("a", "b", "c"))
    assert made.run() == ["a", "b", "c", "4-d", "5-e"]
    assert executor.log == ["+4-d", "+5-e", "-4-d", "-5-e"]


def test_the_error_is_that_of_a_sequential_run(plan, monkeypatch):
    """Of two steps that fail, the first one of the file counts, though it fails last; later steps are stopped."""
    errors = {"3-c": GateError("c"), "2-b": DataError("b")}
    executor = Script(3, ["1-a", "3-c", "2-b", "5-e"], errors)
    made, _ = schedule(plan, executor, monkeypatch)
    with pytest.raises(DataError, match="b"):
        made.run()
    assert executor.log == ["+1-a", "+5-e", "-1-a", "+2-b", "+3-c", "-3-c", "x5-e", "-2-b"]


def test_steps_before_a_failed_one_begin_and_end(plan, monkeypatch):
    executor = Script(2, ["5-e", "1-a", "2-b", "3-c", "4-d"], {"5-e": GateError("e")})
    made, order = schedule(plan, executor, monkeypatch)
    with pytest.raises(GateError, match="e"):
        made.run()
    assert order == ["a", "b", "c", "d"]


def test_what_cannot_run_side_by_side_is_named(monkeypatch):
    check_jobs(1)
    with pytest.raises(SettingsError, match="jobs is 0"):
        check_jobs(0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_jobs(1)
    with pytest.raises(SettingsError, match="jobs is 2 under torchrun"):
        check_jobs(2)
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setattr(parallel, "is_supported", lambda: False)
    with pytest.raises(ResourceError, match="flock"):
        check_jobs(2)


@pytest.mark.parametrize(
    ("cores", "jobs", "variable", "threads"),
    [(8, 2, "", 4), (8, 3, "", 2), (2, 4, "", 1), (8, 2, "1", 1), (8, 4, "8", 2), (8, 2, "4,2", 4), (8, 2, "0", 4)],
)
def test_each_step_has_its_share_of_the_cores(monkeypatch, cores, jobs, variable, threads):
    monkeypatch.setattr(parallel, "usable_logical_cores", lambda: cores)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert threads_per_job(jobs) == threads


def test_the_folder_of_the_users_own_modules_is_passed_on(tmp_path, monkeypatch):
    (tmp_path / "mynet.py").write_text("")
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    sources = ["mynet:make", "mypackage.nets:make", "timm:resnet18", "effxfer.net.cifar:resnet20", "absent:make"]
    assert module_folders(sources) == {"mynet:make": str(tmp_path), "mypackage.nets:make": str(tmp_path)}


OWN = """
from torch import nn

from effxfer.net.cifar import resnet20

def make(width=16) -> nn.Module:
    return resnet20(width=width)
"""


def command(file, out, *words):
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    line = [sys.executable, "-P", "-m", "effxfer", "run", str(file), "--device", "cpu", "--out", str(out), *words]
    return {"args": line, "env": environment, "stderr": subprocess.PIPE, "text": True}


@pytest.mark.slow
def test_children_give_the_results_of_a_sequential_run_and_are_told_of_the_users_module(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "ownnet.py").write_text(OWN)
    file = plans.write(tmp_path / "mine.toml", folder)
    file.write_text(file.read_text().replace("effxfer.net.cifar:resnet20", "ownnet:make"))
    for name, words in (("one", []), ("two", ["--jobs", "2"]), ("two", ["--jobs", "2", "--json"])):
        done = subprocess.run(**command(file, tmp_path / name, *words), stdout=subprocess.PIPE, check=False)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == str(tmp_path / "two")
    for place in ("1-dense", "2-small", "3-dense-onnx", "4-small-onnx"):
        one, two = (Artifact.load(tmp_path / name / place).manifest for name in ("one", "two"))
        assert (one.key, one.files["weights.safetensors"]) == (two.key, two.files["weights.safetensors"])
        assert one.files.get("model.onnx") == two.files.get("model.onnx")


@pytest.fixture
def long(folder, tmp_path, monkeypatch):
    """Two long independent trainings; the function starts them, and waits until both are at work."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    file = write(tmp_path / "long.toml", folder, ("a", "", 0), ("b", "a", 400), ("c", "a", 400))
    started = []

    def start():
        process = subprocess.Popen(**command(file, tmp_path / "out", "--jobs", "2"))
        started.append(process)
        works = [tmp_path / "out" / f".work-{place}" for place in ("2-b", "3-c")]
        assert wait_for(lambda: process.poll() is not None or all(is_locked(work) for work in works))
        assert wait_for(lambda: all(list(work.glob("key-*/checkpoint.pt")) for work in works))
        pids = [json.loads((work / ".lock.json").read_text())["pid"] for work in works]
        return process, pids

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_all_children_and_the_run_goes_on(long, tmp_path, number):
    process, pids = long()
    process.send_signal(number)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == (128 + number if number != signal.SIGKILL else -9)
    assert wait_for(lambda: not any(alive(pid) for pid in pids))
    if number != signal.SIGKILL:
        assert "go on with: effxfer run" in errors
    epochs = [len((next(iter(work.glob("key-*"))) / "metrics.jsonl").read_text().splitlines())
              for work in (tmp_path / "out").glob(".work-*")]  # fmt: skip
    assert len(epochs) == 2
    assert min(epochs) > 0
    process, pids = long()
    os.kill(pids[0], signal.SIGKILL)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == ResourceError.exit_code
    assert "the process of 2-b was killed by signal 9" in errors
    assert "run the same command again" in errors
    assert not any(alive(pid) for pid in pids)


def test_a_failing_child_fails_the_run_with_its_message(folder, tmp_path, monkeypatch):
    """The plan is refused before a child starts where it can be; here the data go while the run begins."""
    plan = read_plan(write(tmp_path / "mine.toml", folder, ("a", "", 1), ("b", "", 1)))
    context = RunContext(out=tmp_path / "out", device="cpu")
    monkeypatch.setattr(pipeline, "check_options", lambda *_: None)
    monkeypatch.setattr(pipeline, "_status", lambda *_: "to do")
    plan = replace(plan, data={"shapes": plan.data["shapes"].model_copy(update={"source": str(tmp_path / "gone")})})
    with pytest.raises(DataError) as caught:
        pipeline.run(plan, context, jobs=2)
    with pytest.raises(DataError) as sequential:
        pipeline.run(plan, context)
    assert str(caught.value) == str(sequential.value)
