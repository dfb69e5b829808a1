"""The files for CI of users run: a model that is as good as the accepted one passes, one that regressed fails."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import tiny

HOUSE = Path(__file__).parents[2]
CI = HOUSE / "examples" / "ci"
TINY = "--set options.batch=8 --set options.augment.crop=none --set options.augment.flip=false --epochs 2"
QUICK = "--set latency_seconds=0.2 --set calibration=8 --no-int8"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder as a user has it, with the models and the accepted bench."""
    folder = tmp_path_factory.mktemp("project")
    tiny.write_images(folder / "photos")
    make(folder, "accept")
    return folder


def make(folder: Path, verb: str, **changes: object) -> subprocess.CompletedProcess[str]:
    backbone = "--set backbone.pretrained=false --set backbone.size=16"
    splits = "--set data.val_fraction=0.2 --set data.test_fraction=0.2"
    variables = {
        "EFFXFER": f"PYTHONPATH={HOUSE} {sys.executable} -P -m effxfer",
        "BACKBONE": "effxfer.net.cifar:resnet20",
        "FINETUNE": f"{TINY} {backbone} {splits}",
        "PRUNE": f"--macs-ratio 0.5 {TINY}",
        "EXPORT": QUICK,
        "BENCH": "--max-seconds 60 --set precision=0.5 --set cold=0 --set max_drop=1",
        **changes,
    }
    words = ["make", "-f", str(CI / "Makefile"), *(f"{name}={value}" for name, value in variables.items()), verb]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_model_as_good_as_the_accepted_one_passes(project):
    done = make(project, "check")
    assert done.returncode == 0, done.stderr
    assert "Against accepted.json" in done.stdout


def better(report) -> None:
    """Alter an accepted report: its model was ten times as fast, half as large and five points more accurate."""
    rows = {row["name"]: row for row in report["rows"]}
    ratio = rows["ratio/small-onnx fp32"]
    ratio |= {key: ratio[key] / 10 for key in ("value", "low", "high")} | {"n": 100}
    rows["size/small-onnx fp32"]["value"] /= 2
    table = next(table for table in report["tables"] if "accuracy val %" in table["rows"][0])
    next(row for row in table["rows"] if row["model"] == "small-onnx fp32")["accuracy val %"] += 5


@pytest.mark.slow
def test_a_regression_of_latency_size_or_accuracy_fails_with_exit_code_6(project):
    accepted = json.loads((project / "accepted.json").read_text())
    better(accepted["report"])
    (project / "better.json").write_text(json.dumps(accepted))
    done = make(project, "check", ACCEPTED="better.json")
    assert "Error 6" in done.stderr
    problems = ("p50 ratio grew by", "the file grew from", "validation accuracy fell from")
    assert [problem for problem in problems if f"small-onnx fp32: {problem}" not in done.stderr] == []


def test_the_workflow_calls_verbs_that_the_makefile_has():
    steps = yaml.safe_load((CI / "effxfer.yml").read_text())["jobs"]["check"]["steps"]
    verbs = [step["run"].removeprefix("make ") for step in steps if step.get("run", "").startswith("make ")]
    assert verbs
    assert set(verbs) <= set(re.findall(r"^(\w+):", (CI / "Makefile").read_text(), flags=re.MULTILINE))
