import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.prune.networks import MATRIX, QUICK, complaints, try_one

ROOT = Path(__file__).parents[2]


def same_in_a_fresh_process(folder):
    command = [sys.executable, "-m", "tests.prune.rebuilt", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {found["name"] for found in map(json.loads, done.stdout.splitlines()) if found["same"]}


def test_small_networks_of_every_kind(tmp_path):
    found = {}
    for name, network in QUICK.items():
        found[name] = complaints(network, try_one(name, network, 0.6, tmp_path))
    assert {name: problems for name, problems in found.items() if problems} == {}
    assert same_in_a_fresh_process(tmp_path) == QUICK.keys()


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.3, 0.6])
@pytest.mark.parametrize("name", MATRIX)
def test_published_networks(name, ratio, tmp_path):
    row = try_one(name, MATRIX[name], ratio, tmp_path)
    assert complaints(MATRIX[name], row) == []
    assert same_in_a_fresh_process(tmp_path) == {name}
