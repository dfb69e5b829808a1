import pytest

from effxfer.data.checks.audit import audit
from effxfer.data.checks.enough import check_size
from effxfer.data.listing import Item
from effxfer.data.load import load
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError
from effxfer.runtime.images.preprocess import Preprocess
from tests.data.corpus import class_folders


def said(**counts):
    items = [Item(f"{s}/{k}/{n}", k, s) for s, classes in counts.items() for k, m in classes.items() for n in range(m)]
    return [finding.text.split(":")[0] for finding in check_size(items)]


NO_TEST, NO_FOLDS = "no test images", "one training image of each class"


@pytest.mark.parametrize(
    ("counts", "texts"),
    [
        ({}, []),
        ({"train": {"a": 2, "b": 2}, "val": {"a": 1}, "test": {"b": 1}}, []),
        ({"train": {"a": 2, "b": 1}, "val": {"a": 1}}, [NO_TEST]),
        ({"train": {"a": 1, "b": 1}, "val": {"a": 1}}, [NO_TEST, NO_FOLDS]),
        ({"train": {"a": 1, "b": 1}, "val": {"a": 1}, "test": {"a": 1}}, [NO_FOLDS]),
    ],
)
def test_what_is_missing_is_said(counts, texts):
    assert said(**counts) == texts


@pytest.mark.parametrize(
    "layout",
    [{"a": 2, "b": 2}, {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1}],
    ids=["two per class", "one to validate on"],
)
def test_check_and_commands_say_the_same_of_little_data(tmp_path, layout):
    settings = DataSettings(source=str(class_folders(tmp_path / "data", layout)))
    found = audit(settings, cache=tmp_path / "cache")
    task = load(settings, Preprocess(size=16), cache=tmp_path / "cache")
    assert not found.errors
    assert set(task.notes) <= set(found.report.notes)
    assert any(note.startswith("W313 no test images") for note in task.notes)
    assert [len(task.val), len(task.test)] == [2, 0]
    assert list(task.reported_splits) == ["val"]


def test_without_a_validation_image_nothing_can_be_chosen(tmp_path):
    root = class_folders(tmp_path / "data", {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1})
    for file in (root / "val").rglob("*.jpg"):
        file.write_bytes(b"no image " + file.parent.name.encode())
    with pytest.raises(DataError, match="no readable validation image") as caught:
        load(DataSettings(source=str(root), skip_bad=True), Preprocess(size=16), cache=tmp_path / "cache")
    assert caught.value.code == "E313"
