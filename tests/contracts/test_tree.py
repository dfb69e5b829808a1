"""What is under version control."""

import subprocess
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]
# The bundled weights are the largest; data and results of measurements do not belong here.
LARGEST = {"models": 8_000_000}
USUAL = 400_000


def test_no_large_file_is_kept():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=HOUSE, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("no repository here, or no git")
    files = [HOUSE / name for name in listed.stdout.decode().split("\0") if name]
    sizes = {file.relative_to(HOUSE): file.stat().st_size for file in files if file.is_file()}
    assert sizes
    assert {path: size for path, size in sizes.items() if size > LARGEST.get(path.parts[0], USUAL)} == {}
