from pathlib import Path

import pytest

from effxfer.pipeline.graph import linked_steps, needed_steps
from effxfer.pipeline.plan import read_plan
from tests import plans

OUT = Path("runs/out")


@pytest.fixture
def file(folder, tmp_path):
    return plans.write(tmp_path / "mine.toml", folder)


def needs(plan):
    return {step.name: needed_steps(plan, step, OUT) for step in plan.steps}


def test_steps_need_what_they_start_from_and_compare(file):
    assert needs(read_plan(file)) == {
        "dense": set(),
        "small": {"dense"},
        "dense-onnx": {"dense"},
        "small-onnx": {"small"},
        "bench": {"dense-onnx", "small-onnx"},
    }


def test_a_teacher_is_needed(file):
    plan = read_plan(file, changes=["small.teacher.source=dense", "small.teacher.logits=0.5"])
    assert linked_steps(plan, plan.steps[1]) == {"dense"}


def test_what_lies_in_the_directory_of_an_earlier_step_is_needed(folder, tmp_path):
    text = (
        plans.HEAD
        + """
[[stage]]
name = "tried"
run = "compete"
backbones = [{source = "resnet20-cifar10"}]

[[stage]]
name = "found"
run = "prune"
from = "tried"
sparsity = 0.5

[[stage]]
name = "carried"
run = "ticket"
file = "runs/out/2-found/ticket.safetensors"

[[stage]]
name = "again"
run = "finetune"
from = "tried"
teacher.source = "runs/out/3-carried"
teacher.logits = 0.5
"""
    )
    plan = read_plan(plans.write(tmp_path / "mine.toml", folder, text))
    assert needs(plan) == {"tried": set(), "found": {"tried"}, "carried": {"found"}, "again": {"tried", "carried"}}
