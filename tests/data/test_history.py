import json

import pytest

from effxfer.data.history import History, Record, describe_difference, read_history, record_of, write_history
from effxfer.data.load import scan
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError, ModelFileError
from tests.data.corpus import class_folders, jpeg


@pytest.fixture
def root(tmp_path):
    return class_folders(tmp_path / "data", {"cat": 12, "dog": 15})


def look(root, tmp_path, history=History(), **options):  # noqa: B008
    return scan(DataSettings(source=str(root), **options), cache=tmp_path / "cache", history=history)


def splits(listing):
    return {item.path: item.split for item in listing.items}


def grow(root, count, start=0):
    for number in range(start, start + count):
        (root / ("cat", "dog")[number % 2] / f"new{number}.jpg").write_bytes(jpeg(1000 + number))


def test_a_grown_folder_keeps_its_splits_and_new_images_do_not_move_one_another(root, tmp_path):
    first = look(root, tmp_path)
    history = History((record_of(first),))
    grow(root, 30)
    some = look(root, tmp_path, history)
    assert splits(some).items() > splits(first).items()
    assert len({split for path, split in splits(some).items() if "new" in path}) == 3
    grow(root, 30, 30)
    assert splits(look(root, tmp_path, history)).items() > splits(some).items()
    assert not splits(look(root, tmp_path)).items() > splits(first).items(), "without it, images move"
    assert "W340 data not as they were when the network was made: 30 images new, 0 gone, 0 changed; " in some.notes[-1]


def test_unchanged_data_are_what_they_were_and_nothing_is_said(root, tmp_path):
    first = look(root, tmp_path)
    assert look(root, tmp_path, History((record_of(first),))) == first
    few = look(root, tmp_path, History((record_of(first),)), max_per_class=3)
    assert few == look(root, tmp_path, max_per_class=3), "what is left out is known, too"


def test_what_is_new_gone_and_changed_is_counted(root, tmp_path):
    history = History((record_of(look(root, tmp_path)),))
    grow(root, 2)
    (root / "cat" / "001.jpg").unlink()
    (root / "dog" / "002.jpg").write_bytes(jpeg(77))
    (root / "dog" / "003.jpg").rename(root / "dog" / "moved.jpg")
    assert "2 images new, 1 gone, 1 changed" in look(root, tmp_path, history).notes[-1]


def test_another_folder_of_the_same_name_is_named(root, tmp_path):
    history = History((record_of(look(root, tmp_path)),))
    other = tmp_path / "elsewhere" / "data"
    for number, name in enumerate(("cat", "dog") * 6):
        (other / name).mkdir(parents=True, exist_ok=True)
        (other / name / f"{number}.jpg").write_bytes(jpeg(500 + number))
    note = look(other, tmp_path, history).notes[-1]
    assert "12 images new, 27 gone, 0 changed" in note
    assert note.endswith(f": {other} was used; --data names another")
    assert not [n for n in look(other, tmp_path, history, name="flowers").notes if "W340" in n], "another task"


def test_images_trained_on_are_not_held_out_by_hand(tmp_path):
    root = class_folders(tmp_path / "data", {f"{s}/{c}": 4 for s in ("train", "val", "test") for c in "ab"})
    history = History((record_of(look(root, tmp_path)),))
    (root / "train" / "a" / "001.jpg").rename(root / "test" / "a" / "moved.jpg")
    with pytest.raises(
        DataError, match=r"test/a/moved\.jpg: trained on by an earlier stage, and held out now"
    ) as caught:
        look(root, tmp_path, history)
    assert caught.value.code == "E320"
    assert any("E320 trained on" in note for note in look(root, tmp_path, history, allow_leakage=True).notes)


def test_what_was_trained_on_once_is_of_train_for_good():
    content, path = "c" * 16, "p" * 8
    one = Record(name="x", digest="1", images={"train": (content + path,)})
    two = Record(name="x", digest="2", images={"test": (content + path,)})
    assert (
        History((two,)).with_records([one]).splits == History((one,)).with_records([two]).splits == {content: "train"}
    )
    assert History((one,)).with_records([one]).records == (one,)


def test_a_result_without_splits_says_that_it_does_not_know(root, tmp_path):
    first = look(root, tmp_path)
    assert not describe_difference(first, History((Record(name="data", digest=first.key),)), "data")
    (said,) = describe_difference(first, History((Record(name="data", digest="other"),)), "data")
    assert "does not say by which images" in said.text
    assert not describe_difference(first, History((Record(name="else", digest="other"),)), "data")


def test_a_history_is_read_back_and_names_nothing(root, tmp_path):
    history = History((record_of(look(root, tmp_path)),))
    write_history(tmp_path / "splits.json", history)
    assert read_history(tmp_path / "splits.json") == history
    text = (tmp_path / "splits.json").read_text()
    assert "jpg" not in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"records": [3]}', json.dumps({"records": [{"name": "x"}]})])
def test_a_damaged_history_is_named(tmp_path, content):
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(ModelFileError, match=r"splits\.json is damaged") as caught:
        read_history(tmp_path / "splits.json")
    assert caught.value.code == "E404"
