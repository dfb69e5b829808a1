"""Benchmarks that answer a question of the user's own data run, on little of it."""

import csv
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import effxfer as ex
from benchmarks.references import cifar_questions

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


@pytest.mark.slow
def test_peers_prints_one_table_of_all_files(tmp_path):
    photos(tmp_path / "photos")
    words = ["--size", "32", "--epochs", "1", "--recovery", "1", "--latency-ratio", "0.7"]
    text = printed("peers", "--data", str(tmp_path / "photos"), "--backbone", "resnet20-cifar10", *words)
    rows = ["plain loop", "plain loop, int8 static", "torch-pruning uniform", "torch-pruning global", "effxfer shrink"]
    assert not [name for name in rows if f"\n{name} " not in text]
    assert "torch-pruning  1." in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "package", "words", "told"),
    [
        (
            "lightly_pretraining", "lightly",
            ["--backbone", "resnet20-cifar10", "--size", "16", "--epochs", "1", "--batch", "8", "--seeds", "1", "byol"],
            ["untrained", "lightly, AdamW", "knn/test - effxfer's"],
        ),
        (
            "libmtl_weightings", "LibMTL",
            ["--trained", "64", "--tested", "16", "--epochs", "1", "--batch", "32", "--seeds", "1", "cagrad", "dwa"],
            ["cagrad", "dwa", "LibMTL, mean"],
        ),
    ],
)  # fmt: skip
def test_references_print_a_table_or_say_what_is_not_installed(name, package, words, told):
    digits = '{"source": "digits", "max_per_class": 9}'
    text = printed(f"references.{name}", "--data", digits, *words)
    installed = find_spec(package) is not None
    assert not [word for word in (told if installed else [f"skipped: {package} is not installed"]) if word not in text]


def test_an_image_of_cifar_answers_its_class_kind_and_turn(tmp_path):
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for colour, name in enumerate(("cat", *sorted(cifar_questions.VEHICLES))):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.full((32, 32, 3), colour, np.uint8)
                pixels[:8] = 255 - number  # what is up; no two images are equal
                Image.fromarray(pixels).save(tmp_path / "images" / split / name / f"{number}.png")
    images = ex.load_data(tmp_path / "images", allow_leakage=True).task(size=32)
    table = cifar_questions.write(images, tmp_path / "made", {"train": 20, "val": 2, "test": 2})
    rows = list(csv.DictReader(Path(table.source).read_text().splitlines()))
    sides = {"none": np.s_[0, 16], "quarter": np.s_[16, 0], "half": np.s_[31, 16], "three quarters": np.s_[16, 31]}
    answers = [("cat", "animal"), *((name, "vehicle") for name in sorted(cifar_questions.VEHICLES))]
    assert len(rows) == 24
    for row in rows[:20]:
        pixels = np.asarray(Image.open(Path(table.source).parent / row["path"]))[..., 0]
        assert pixels[sides[row["turn"]]] > 245, "what was up"
        assert (row["class"], row["kind"]) == answers[pixels[16, 16]]
    assert {row["turn"] for row in rows} == set(cifar_questions.TURNS)
    with pytest.raises(ValueError, match="those of CIFAR-10"):
        cifar_questions.write(ex.load_data("digits").task(size=32), tmp_path / "other", {"train": 4})


def photos(root):
    """Write photographs of two colours as two classes."""
    rng = np.random.default_rng(0)
    for label, colour in (("red", (200, 40, 40)), ("blue", (40, 40, 200))):
        (root / label).mkdir(parents=True)
        for number in range(30):
            pixels = np.clip(rng.normal(colour, 30, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number}.png")
