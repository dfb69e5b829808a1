import csv

import pytest
from PIL import Image
from pydantic import ValidationError

from effxfer.data.labels.captions import captions_of, class_of_captions, fill_prompts, with_caption_labels
from effxfer.data.load import load, scan
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError, SettingsError
from effxfer.runtime.images.preprocess import Preprocess
from tests import tiny

COLOURS = ("red", "blue")


def write_pairs(folder, rows, header=("path", "caption", "label", "split")):
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        file = folder / row[0]
        if not file.exists():
            Image.new("RGB", (16, 16), (number, number * 7 % 256, 9)).save(file)
    with (folder / "pairs.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return folder / "pairs.csv"


def pairs_of(count=8):
    splits = ("train", "train", "val", "test")
    return [(f"{n}.png", f"a {COLOURS[n % 2]}  thing", COLOURS[n % 2], splits[n // 2 % 4]) for n in range(count)]


def loaded(table, **more):
    settings = DataSettings(source=str(table), caption_column="caption", **more)
    return load(settings, Preprocess(size=8))


def test_captions_stand_beside_labels(tmp_path):
    task = loaded(write_pairs(tmp_path / "data", pairs_of()))
    assert task.classes == ("blue", "red")
    assert task.train.captions[0] == ("a red thing",), "blanks are single"
    captions = captions_of(task)
    assert captions.texts == ("a blue thing", "a red thing")
    assert captions.of_images["val"] == [(1,), (0,)]
    places, labels = class_of_captions(task, captions, "train")
    assert (places, labels.tolist()) == ([0, 1], [0, 1])


def test_an_image_may_have_several_captions(tmp_path):
    rows = [*pairs_of(), ("0.png", "it is red", "red", "train")]
    task = loaded(write_pairs(tmp_path / "data", rows))
    assert task.train.captions[0] == ("a red thing", "it is red")
    assert len(task.train) == 4


def test_captions_are_part_of_the_key(tmp_path):
    first = scan(DataSettings(source=str(write_pairs(tmp_path / "a", pairs_of())), caption_column="caption"))
    rows = [(path, "other " + text, *rest) for path, text, *rest in pairs_of()]
    second = scan(DataSettings(source=str(write_pairs(tmp_path / "b", rows)), caption_column="caption"))
    plain = scan(DataSettings(source=str(tmp_path / "b" / "pairs.csv")))
    assert len({first.key, second.key, plain.key}) == 3


def test_without_labels_captions_are_the_classes(tmp_path):
    task = loaded(write_pairs(tmp_path / "data", pairs_of()), labels="none")
    labelled = with_caption_labels(task)
    assert labelled.classes == ("a blue thing", "a red thing")
    assert labelled.train.labels.tolist() == [1, 0, 1, 0]
    assert with_caption_labels(task, ["a red thing"]).train.labels.tolist() == [0, -1, 0, -1]


def test_class_names_in_prompts_are_captions_where_there_are_none(data):
    task = load(data, Preprocess(size=8))
    captions = captions_of(task, ["a {}", "the {} one"])
    assert len(captions.texts) == 2 * len(tiny.CLASSES)
    assert all(len(own) == 2 for own in captions.of_images["train"])
    assert fill_prompts("polar_bear", ["a {}"]) == ("a polar bear",)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (("9.png", " ", "red", "train"), "E345"),
        (("0.png", "a red thing", "red", "train"), "E332"),
        (("0.png", "another", "red", "val"), "E346"),
        (("0.png", "another", "blue", "train"), "E336"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path, row, code):
    with pytest.raises(DataError) as caught:
        loaded(write_pairs(tmp_path / "data", [*pairs_of(), row]))
    assert caught.value.code == code


def test_a_missing_image_and_a_missing_column_are_named(tmp_path):
    table = write_pairs(tmp_path / "data", pairs_of())
    (tmp_path / "data" / "3.png").unlink()
    with pytest.raises(DataError, match=r"3\.png"):
        loaded(table)
    with pytest.raises(DataError, match="no column 'words'") as caught:
        scan(DataSettings(source=str(table), caption_column="words"))
    assert caught.value.code == "E331"


@pytest.mark.parametrize("wrong", [{"source": "photos"}, {"source": "a.csv", "path_column": "caption"}])
def test_a_column_of_captions_is_one_of_its_own(wrong):
    with pytest.raises(ValidationError, match="caption_column"):
        DataSettings(caption_column="caption", **wrong)


def test_images_without_captions_and_classes_teach_nothing(tmp_path):
    table = write_pairs(tmp_path / "data", pairs_of())
    task = load(DataSettings(source=str(table), labels="none"), Preprocess(size=8))
    with pytest.raises(SettingsError, match="neither captions nor classes"):
        captions_of(task)
