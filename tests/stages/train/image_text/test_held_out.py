"""The constant by which known classes are lowered beside new ones is chosen without the new ones."""

import numpy as np
import pytest
from PIL import Image

from effxfer.data.settings import DataSettings
from tests import tiny

KNOWN = {"red": (1, 0, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0), "white": (1, 1, 1)}
NEW = {"green": (0, 1, 0), "black": (0, 0, 0)}
FIT = {"epochs": 12, "lr": 0.01, "warmup": 0.0}


def write(folder, colours, count=12):
    rng = np.random.default_rng(0)
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = 40 + 140 * np.array(colour) + rng.integers(0, 60, (16, 16, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    place = tmp_path_factory.mktemp("colours")
    target = {"source": str(write(place / "new", NEW))}
    return tiny.data_of(write(place / "known", KNOWN)).model_copy(update={"target": DataSettings(**target)})


def trained(out, data, **changes):
    changes = {"prompts": ["a {} thing"], "fit": FIT, "width": 16, "shuffles": 0, **changes}
    return tiny.stage("clip", changes.pop("source", tiny.BACKBONE), out, data, **changes)


@pytest.fixture(scope="module")
def pair(colours, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("pair") / "net", colours)


def test_known_and_new_classes_are_reported_side_by_side(pair):
    report = pair.manifest.report
    constant = report["calibration constant"].value
    assert constant > 0, "classes of the training are favoured"
    assert constant == pytest.approx(float(pair.net().head.calibration))
    assert report["generalized/unseen"].value >= report["generalized/unseen uncalibrated"].value
    assert report["generalized/seen"].value <= report["generalized/seen uncalibrated"].value
    assert report["generalized/harmonic mean"].n == report["generalized/seen"].n + 24


@pytest.mark.slow
def test_the_trained_pair_is_that_without_the_constant(pair, colours, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("effxfer.stages.train.image_text.held_out.LEAST_CLASSES", 3)
        plain = trained(tmp_path / "plain", colours)
    assert any("4 known classes are too few" in note for note in plain.manifest.report.notes)
    for (name, first), second in zip(pair.net().state_dict().items(), plain.net().state_dict().values(), strict=True):
        assert name.endswith("calibration") or first.equal(second), name


def test_nothing_is_chosen_where_nothing_was_learnt(pair, colours, tmp_path):
    again = trained(tmp_path / "again", colours, source=pair, fit={"epochs": 0})
    assert any("learnt nothing" in note for note in again.manifest.report.notes)
    trained_towers = trained(tmp_path / "both", colours, towers="image", fit={**FIT, "epochs": 1}, batch=16)
    assert any("towers are trained" in note for note in trained_towers.manifest.report.notes)
