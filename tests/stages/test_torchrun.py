"""A whole pipeline under `torchrun`: training is shared, everything else is the leader's."""

import os

import pytest

from effxfer.artifact import Artifact
from effxfer.pipeline import run as pipeline
from effxfer.pipeline.plan import read_plan
from effxfer.stages.runner.context import RunContext
from tests import plans
from tests.train.test_devices import ended, start

TOML = plans.TOML[: plans.TOML.index('[[stage]]\nname = "small-onnx"')]


@pytest.mark.slow
def test_two_processes_make_one_run(folder, tmp_path):
    file = plans.write(tmp_path / "mine.toml", folder, TOML)
    words = ("run", file, "--out", tmp_path / "out", "--device", "cpu")
    (leader, follower) = ended(start("effxfer", *words))
    assert leader[0].splitlines()[-1].startswith("effxfer run ")
    assert follower[0] == "", "only the leader speaks"
    assert "done" in leader[1]
    plan, context = read_plan(file), RunContext(out=tmp_path / "out")
    assert {row["state"] for row in pipeline.statuses(plan, context)} == {"done"}
    made = Artifact.load(tmp_path / "out" / "1-dense")
    assert made.manifest.report["accuracy/val"].value > 60
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".work")]
    again = ended(start("effxfer", *words))
    assert again[0][0].splitlines()[-1].startswith("effxfer run ")
    assert "RANK" not in os.environ
