"""Candidates, and points of a learning curve, are trained side by side with the results of a sequential run."""

import subprocess

import pytest

from effxfer.artifact import Artifact
from effxfer.train.state import UnitFinished, Work
from tests import plans
from tests.pipeline.test_parallel import command


class Units:
    """Notes which units are to be computed elsewhere, and computes some of them there."""

    def __init__(self, work, unit="", saved=()):
        self.unit, self.saved, self.asked, self.work = unit, saved, [], work

    def run(self, units):
        self.asked += units
        for name in self.saved:
            Work(self.work).once(name, lambda name=name: {"name": name, "where": "child"})


def units(*names):
    return [(name, lambda name=name: {"name": name, "where": "here"}) for name in names]


def test_units_are_computed_elsewhere_and_the_failed_ones_here(tmp_path):
    elsewhere = Units(tmp_path / "part", saved=("b",))
    work = Work(tmp_path, elsewhere).part("part")
    work.once(*units("a")[0])
    work.prepare(units("a", "b", "c"))
    assert elsewhere.asked == ["part/b", "part/c"]
    assert [work.once(*unit)["where"] for unit in units("a", "b", "c")] == ["here", "child", "here"]
    work.prepare(units("a", "b", "c"))
    assert len(elsewhere.asked) == 2, "all are saved"


def test_the_process_of_a_unit_ends_when_it_is_saved(tmp_path):
    work = Work(tmp_path, Units(tmp_path, unit="part/b")).part("part")
    with pytest.raises(UnitFinished):
        work.prepare(units("a", "b"))
    assert [file.name for file in (tmp_path / "part").iterdir()] == ["b.pt"]
    Work(tmp_path, work.fan_out).prepare(units("x", "y"))
    assert work.fan_out.asked == [], "the process of a unit starts no others"


def test_without_children_nothing_is_prepared(tmp_path):
    for work in (Work(tmp_path), Work(None, Units(tmp_path))):
        work.prepare(units("a", "b"))
    assert list(tmp_path.iterdir()) == []


STAGES = """
[[stage]]
name = "dense"
run = "finetune"
fit.epochs = 0

[[stage]]
run = "compete"
from = "dense"
candidates = {full = {}, probe = {strategy = "probe"}}
options.batch = 8
fit.epochs = 3

[[stage]]
run = "curve"
from = "dense"
labels = [2, 4]
repeats = 1
min_steps = 3
options.batch = 8
fit.epochs = 2
"""


@pytest.mark.slow
def test_children_of_a_stage_give_the_results_of_a_sequential_run(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    file = plans.write(tmp_path / "mine.toml", folder, plans.HEAD + STAGES)
    for name, words in (("one", []), ("two", ["--jobs", "2"])):
        done = subprocess.run(**command(file, tmp_path / name, *words), stdout=subprocess.PIPE, check=False)
        assert done.returncode == 0, done.stderr
    for place in ("2-compete", "3-curve"):
        one, two = (Artifact.load(tmp_path / name / place).manifest for name in ("one", "two"))
        assert (one.key, one.files["weights.safetensors"]) == (two.key, two.files["weights.safetensors"])
        assert list(map(untimed, one.report.tables)) == list(map(untimed, two.report.tables))
    assert not list((tmp_path / "two").glob(".work-*"))


def untimed(table):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in table.rows]
