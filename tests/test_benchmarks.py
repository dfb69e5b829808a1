"""Benchmarks that answer a question of the user's own data run, on little of it."""

import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
DIGITS = '{"source": "digits", "max_per_class": 3, "val_fraction": 0.1}'


def printed(name, *words):
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *words], cwd=HOUSE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        (
            "ranking",
            ["--epochs", "0", "resnet20-cifar10", '{"source": "effxfer.net.cifar:resnet20", "pretrained": false}'],
            ["weighted Kendall tau", "LogME", "H-score", "fine-tuned val %"],
        ),
        (
            "strategies",
            ["resnet20-cifar10", "full", 'lora@1e-2{"rank": 1}', "--epochs", "1", "--seeds", "1"],
            ["trained, M", "against full", "lora@1e-2"],
        ),
    ],
)
def test_prints_its_table(name, words, told):
    text = printed(name, "--data", DIGITS, "--size", "16", *words)
    assert not [word for word in told if word not in text]
