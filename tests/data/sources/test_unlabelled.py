import shutil

import numpy as np
import pytest

from effxfer.data.load import load, scan
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError, SettingsError
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.settings import build
from tests import tiny

PREPROCESS = Preprocess(size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def test_what_few_labels_leave_out_is_kept_without_labels(folder):
    few = tiny.data_of(folder, max_per_class=3)
    all_, with_rest = scan(tiny.data_of(folder)), scan(few.model_copy(update={"unlabelled": "rest"}))
    assert with_rest.items == scan(few).items
    assert with_rest.digest != scan(few).digest
    train = {item.path for item in all_.split("train")}
    kept = {item.path for item in with_rest.split("train")}
    assert {item.path for item in with_rest.split("unlabelled")} == train - kept
    assert all(item.label == "" for item in with_rest.unlabelled)
    assert any(f"{len(train - kept)} training images without labels" in note for note in with_rest.notes)


def test_a_task_holds_their_pixels_and_no_labels(folder):
    task = load(tiny.data_of(folder, max_per_class=3, unlabelled="rest"), PREPROCESS)
    plain = load(tiny.data_of(folder), PREPROCESS)
    assert plain.unlabelled is None
    assert task.unlabelled is not None
    assert (task.unlabelled.labels == -1).all()
    assert task.unlabelled.canvas is not None
    place = {name: row for row, name in enumerate(plain.train.names)}
    rows = [place[name] for name in task.unlabelled.names]
    assert len(rows) == len(plain.train) - 9
    assert np.array_equal(task.unlabelled.rows, plain.train.rows[rows])


def test_a_folder_of_any_depth_but_not_what_is_labelled(folder, tmp_path):
    more = tmp_path / "more"
    tiny.write_images(more / "deep", per_class=2, seed=5)
    known = sorted((folder / "red").iterdir())[0]
    shutil.copy(known, more / known.name)
    found = scan(tiny.data_of(folder, unlabelled=str(more)))
    assert len(found.unlabelled) == 6
    assert found.classes == tiny.CLASSES
    assert any("1 known ones left out" in note for note in found.notes)
    task = load(tiny.data_of(folder, unlabelled=str(more)), PREPROCESS)
    assert task.unlabelled is not None
    assert len(task.unlabelled) == 6
    assert task.unlabelled.rows.std() > 10


@pytest.mark.parametrize("what", ["nowhere", "red"])
def test_a_folder_without_new_images_is_refused(folder, what):
    with pytest.raises(DataError):
        scan(tiny.data_of(folder, unlabelled=str(folder / what)))


def test_built_in_data_have_a_rest_and_no_folder(tmp_path):
    assert len(scan(DataSettings(source="digits", max_per_class=5, unlabelled="rest")).unlabelled) > 1000
    with pytest.raises(DataError, match="does not take a folder"):
        scan(DataSettings(source="digits", unlabelled=str(tmp_path)))


def test_a_rest_needs_something_left_out():
    with pytest.raises(SettingsError, match="set max_per_class"):
        build(DataSettings, {"source": "digits", "unlabelled": "rest"}, "data")
