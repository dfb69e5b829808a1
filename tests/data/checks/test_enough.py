import pytest

from effxfer.data.checks.audit import audit
from effxfer.data.checks.enough import check_size, require_folds
from effxfer.data.listing import Item
from effxfer.data.load import load
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError
from effxfer.runtime.images.preprocess import Preprocess
from tests.data.corpus import class_folders
from tests.data.label_tables import TAGS, VALUES, labelled_images, settings_of


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
        ({"train": {"a": 2, "b": 2}, "test": {"a": 1}}, ["no validation images"]),
    ],
)
def test_what_is_missing_is_said(counts, texts):
    assert said(**counts) == texts


@pytest.mark.parametrize("kind", ["multi", "value"])
def test_folds_of_several_labels_and_of_values_need_no_classes(kind):
    items = [Item("1.jpg", "1", "train"), Item("2.jpg", "0", "train"), Item("3.jpg", "1", "val")]
    texts = [finding.text for finding in check_size(items, kind)]
    assert texts == ["no test images: the score is reported on the validation split alone"]


@pytest.mark.parametrize("kind", [TAGS, VALUES])
def test_cross_validation_takes_every_kind(tmp_path, kind):
    task = load(settings_of(labelled_images(tmp_path), kind), Preprocess(size=16), cache=tmp_path / "cache")
    require_folds(task)


def test_cross_validation_of_one_image_of_each_class_is_refused(tmp_path):
    root = class_folders(tmp_path / "data", {"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 1})
    task = load(DataSettings(source=str(root)), Preprocess(size=16), cache=tmp_path / "cache")
    with pytest.raises(DataError, match="one training image of each class") as caught:
        require_folds(task)
    assert caught.value.code == "E313"


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


@pytest.mark.parametrize("classes", [{"a": 1, "b": 1}, {"a": 3, "b": 1}], ids=["one each", "one of a class"])
def test_absent_splits_are_not_told_where_a_class_cannot_be_split(tmp_path, classes):
    found = audit(DataSettings(source=str(class_folders(tmp_path / "data", classes))), cache=tmp_path / "cache")
    lone = sum(count == 1 for count in classes.values())
    text = "has 1 distinct image, which cannot be split"
    assert [text in finding.text for finding in found.errors] == [True] * lone
    assert not [finding.text for finding in found.findings if finding.text.startswith(("no test", "no validation"))]


def test_without_a_validation_image_nothing_can_be_chosen(tmp_path):
    root = class_folders(tmp_path / "data", {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1})
    for file in (root / "val").rglob("*.jpg"):
        file.write_bytes(b"no image " + file.parent.name.encode())
    with pytest.raises(DataError, match="no readable validation image") as caught:
        load(DataSettings(source=str(root), skip_bad=True), Preprocess(size=16), cache=tmp_path / "cache")
    assert caught.value.code == "E313"
