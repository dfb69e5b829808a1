"""The verbs of the Makefile, and that CI calls them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import tiny

HOUSE = Path(__file__).parents[1]
MAKEFILE = HOUSE / "Makefile"
PIPELINE = """# Train in a moment.
[backbone]
source = "effxfer.net.cifar:resnet20"
pretrained = false
size = 16

[data]
source = "digits"
val_fraction = 0.2
test_fraction = 0.2

[[stage]]
name = "dense"
run = "finetune"
fit = { epochs = 1 }
options = { batch = 8, augment = { crop = "none", flip = false } }
"""


@pytest.fixture
def venv(tmp_path):
    """An environment that counts as installed, whose `effxfer` is this one."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    script = tmp_path / "venv" / "bin" / "effxfer"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{HOUSE}" exec "{sys.executable}" -P -m effxfer "$@"\n')
    script.chmod(0o755)
    (tmp_path / "venv" / ".installed").touch()
    return tmp_path / "venv"


def make(venv: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-C", str(HOUSE), "--no-print-directory", f"VENV={venv}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "OUT": ""})


def test_a_pipeline_takes_data_backbone_and_place_from_make(venv, tmp_path):
    data = tiny.write_images(tmp_path / "my photos")
    (tmp_path / "moment.toml").write_text(PIPELINE)
    variables = [f"PIPELINE={tmp_path / 'moment.toml'}", f"DATA={data}", "BACKBONE=resnet20-cifar10"]
    done = make(venv, "pipeline", *variables, f"OUT={tmp_path / 'run'}", "ARGS=--dry-run --set data.source=nowhere")
    assert f"--data '{data}' --backbone 'resnet20-cifar10'" in done.stdout
    assert "nowhere" in done.stderr
    assert "Error 3" in done.stderr


@pytest.mark.slow
def test_a_pipeline_runs_on_the_data_that_make_names(venv, tmp_path):
    data = tiny.write_images(tmp_path / "my photos")
    (tmp_path / "moment.toml").write_text(PIPELINE)
    done = make(venv, "pipeline", f"PIPELINE={tmp_path / 'moment.toml'}", f"DATA={data}", f"OUT={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "1-dense" / "manifest.json").exists()
    assert list((tmp_path / "run").glob("report-*.html"))


def test_every_verb_is_explained(venv):
    verbs = re.search(r"^\.PHONY: (.*)$", MAKEFILE.read_text(), flags=re.MULTILINE)[1].split()
    shown = [line.split("\t")[0] for line in make(venv, "help").stdout.splitlines()]
    assert sorted(shown) == sorted(verbs)


def test_ci_checks_and_tests():
    lines = (HOUSE / ".ci" / "run").read_text().splitlines()
    assert [line for line in lines if line.startswith("make ")] == ["make check", "make test"]
    workflow = yaml.safe_load((HOUSE / ".github" / "workflows" / "test.yml").read_text())
    assert any(step.get("run") == ".ci/run" for step in workflow["jobs"]["test"]["steps"])


def test_months_are_learned_one_after_another_by_make(venv, tmp_path):
    for month in ("2026-01", "2026-02"):
        tiny.write_images(tmp_path / "photos" / month, per_class=8, seed=int(month[-1]))
    learn = ["learn.fit.epochs=1", "learn.options.batch=8", "learn.size=16", "data.val_fraction=0.25"]
    quick = [*learn, "onnx.int8=false"]
    args = " ".join(f"--set {change}" for change in quick)
    first = make(venv, "monthly", f"DATA={tmp_path}/photos/2026-0*", f"OUT={tmp_path / 'whole'}", f"ARGS={args}")
    assert first.returncode == 0, first.stderr
    assert "2026-02" in (tmp_path / "whole" / "1-learn" / "manifest.json").read_text()
    assert (tmp_path / "whole" / "2-onnx" / "model.onnx").is_file()
