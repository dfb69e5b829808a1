import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effxfer.data.decoded import decode_cache
from effxfer.data.load import load, scan
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError
from effxfer.files import read_sealed, write_sealed
from effxfer.progress import show_through
from effxfer.runtime.images.crop import resize_crop
from effxfer.runtime.images.preprocess import Preprocess, decode
from tests.data.corpus import class_folders, encoded, images_table, jpeg, photo

SMALL = Preprocess(size=24, crop_pct=0.9)


@pytest.fixture
def root(tmp_path):
    return class_folders(tmp_path / "data", {"cat": 12, "dog": 15})


def task(root, tmp_path, preprocess=SMALL, progress=None, **options):
    return load(DataSettings(source=str(root), **options), preprocess, cache=tmp_path / "cache", progress=progress)


def test_pixels_are_the_evaluation_view_of_every_file(root, tmp_path):
    done = task(root, tmp_path)
    assert done.classes == ("cat", "dog")
    assert [len(done.train), len(done.val), len(done.test)] == [22, 3, 2]
    for split in (done.train, done.val, done.test):
        for pixels, label, name in zip(split.rows, split.labels, split.names, strict=True):
            np.testing.assert_array_equal(pixels, resize_crop(decode(root / name), SMALL))
            assert name.startswith(done.classes[label])


def test_canvas_holds_the_whole_image_and_its_aspect(root, tmp_path):
    Image.fromarray(np.array(photo(99, 80, 40))).save(root / "cat" / "wide.png")
    done = task(root, tmp_path, preprocess=Preprocess(size=24), val_fraction=0.05, test_fraction=0.05)
    names = list(done.train.names)
    assert done.train.canvas.shape == (len(names), 24, 24, 3)
    side = done.train.canvas.shape[1]
    for name, canvas, aspect in zip(names, done.train.canvas, done.train.aspect, strict=True):
        image = decode(root / name)
        np.testing.assert_array_equal(canvas, np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)))
        assert aspect == pytest.approx(image.width / image.height)
    assert done.val.canvas is done.test.canvas is done.val.aspect is None


@pytest.mark.parametrize("crop", ["squash", "letterbox"])
def test_what_is_squashed_or_letterboxed_is_cropped_as_it_is_seen(root, tmp_path, crop):
    Image.fromarray(np.array(photo(99, 80, 20))).save(root / "cat" / "wide.png")
    seen = Preprocess(size=24, crop=crop)
    done = task(root, tmp_path, preprocess=seen)
    side = done.train.canvas.shape[1]
    for name, canvas, view in zip(done.train.names, done.train.canvas, done.train.rows, strict=True):
        image = decode(root / name)
        np.testing.assert_array_equal(canvas, resize_crop(image, Preprocess(size=side, crop=crop)))
        np.testing.assert_array_equal(view, resize_crop(image, seen))
    assert (done.train.aspect == 1).all()
    assert not any("W385" in note for note in done.notes)


def test_a_note_says_what_the_centre_crop_cuts_off(root, tmp_path):
    for number, width in enumerate((60, 80, 100)):
        Image.fromarray(np.array(photo(number, width, 20))).save(root / "cat" / f"wide{number}.png")
    (note,) = [note for note in task(root, tmp_path).notes if "W385" in note]
    assert "backbone.crop = squash or letterbox: 3 (cat/wide" in note
    assert note.endswith("75% in the median")


def test_a_border_of_another_colour_is_decoded_anew(root, tmp_path):
    Image.fromarray(np.array(photo(99, 80, 20))).save(root / "cat" / "wide.png")
    task(root, tmp_path, preprocess=Preprocess(size=24, crop="letterbox"))
    dark = task(root, tmp_path, preprocess=Preprocess(size=24, crop="letterbox", mean=(0.0, 0.0, 0.0)))
    split = next(s for s in (dark.train, dark.val, dark.test) if "cat/wide.png" in s.names)
    assert (split.rows[list(split.names).index("cat/wide.png")][0] == 0).all()


@pytest.mark.parametrize(
    ("size", "scale", "side"), [(24, 1.15, 24), (24, 1.4, 32), (24, 4, 40), (64, 2, 64), (48, 1, 48)]
)
def test_canvas_side_is_a_multiple_of_8_and_not_larger_than_the_images(root, tmp_path, size, scale, side):
    assert task(root, tmp_path, Preprocess(size=size), canvas_scale=scale).train.canvas.shape[1:3] == (side, side)


def test_second_load_decodes_nothing_and_is_equal(root, tmp_path, monkeypatch):
    calls = []
    first = task(root, tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (27, 27)
    monkeypatch.setattr(decode_cache.decode, "decode_item", None)
    again = task(root, tmp_path, progress=lambda done, total: calls.append("again"))
    assert "again" not in calls
    assert again.digest == first.digest
    assert again.notes == first.notes
    np.testing.assert_array_equal(again.train.rows, first.train.rows)
    np.testing.assert_array_equal(again.train.canvas, first.train.canvas)
    assert isinstance(again.train.rows, np.memmap)
    assert not again.train.rows.flags.writeable


def test_mean_and_std_share_an_entry_and_sizes_do_not(root, tmp_path):
    for preprocess in (SMALL, Preprocess(size=24, crop_pct=0.9, mean=(0, 0, 0)), Preprocess(size=16)):
        task(root, tmp_path, preprocess)
    assert len(list((tmp_path / "cache" / "pixels").iterdir())) == 2


def flip(file, position=1000):
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "manifest", "name"])
def test_damaged_cache_is_redone(root, tmp_path, damage):
    first = np.array(task(root, tmp_path).train.rows)
    (entry,) = (tmp_path / "cache" / "pixels").glob("*/arrays")
    file = entry / "train_pixels.uint8"
    if damage == "flip":
        flip(file)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-5])
    elif damage == "gone":
        file.unlink()
    elif damage == "name":
        facts = read_sealed(entry / "manifest.json")
        facts["files"]["train_qixels.uint8"] = facts["files"].pop(file.name)
        write_sealed(entry / "manifest.json", facts)
        file.rename(entry / "train_qixels.uint8")
    else:
        (entry / "manifest.json").write_text('{"format": 1, "files"')
    np.testing.assert_array_equal(task(root, tmp_path).train.rows, first)


def test_copied_cache_is_accepted_by_its_digests(root, tmp_path, monkeypatch):
    task(root, tmp_path)
    shutil.copytree(tmp_path / "cache", tmp_path / "other", copy_function=shutil.copyfile)
    monkeypatch.setattr(decode_cache.decode, "decode_item", None)
    assert len(load(DataSettings(source=str(root)), SMALL, cache=tmp_path / "other").train) == 22


def test_digest_depends_on_content_label_path_and_split(root, tmp_path):
    def now(**options):
        return scan(DataSettings(source=str(root), **options), cache=tmp_path / "cache").digest

    first = now()
    assert now() == first == now(name="other", workers=1, skip_bad=True)
    assert now(split_seed=1) != first
    assert now(max_per_class=3) != first
    moved = class_folders(tmp_path / "moved", {"cat": 12, "dog": 15})
    assert scan(DataSettings(source=str(moved)), cache=tmp_path / "cache").digest == first
    (root / "cat" / "000.jpg").rename(root / "cat" / "renamed.jpg")
    renamed = now()
    assert renamed != first
    (root / "cat" / "renamed.jpg").write_bytes(jpeg(77))
    assert now() not in {first, renamed}


def test_relative_source_starts_from_base(root, tmp_path):
    done = load(DataSettings(source="data"), SMALL, base=tmp_path, cache=tmp_path / "cache")
    assert done.name == "data"
    assert len(done.train) == 22


def test_cache_folder_comes_from_the_environment(root, tmp_path, monkeypatch):
    monkeypatch.setenv("EFFXFER_CACHE", str(tmp_path / "elsewhere"))
    load(DataSettings(source=str(root)), SMALL)
    assert list((tmp_path / "elsewhere" / "pixels").iterdir())


def test_bad_images_stop_with_count_and_first_five(root, tmp_path):
    for number in range(7):
        (root / "cat" / f"bad{number}.jpg").write_bytes(f"nothing {number}".encode())
    with pytest.raises(DataError, match="7 of 34 images cannot be used") as caught:
        task(root, tmp_path)
    assert caught.value.code == "E301"
    assert "bad4.jpg" in str(caught.value)
    assert "bad5.jpg" not in str(caught.value)
    assert "and 2 more" in str(caught.value)
    assert "skip_bad" in caught.value.hint


def test_skip_bad_leaves_them_out_and_says_so(root, tmp_path):
    (root / "cat" / "000.jpg").write_bytes(jpeg()[:300])
    (root / "dog" / "bad.jpg").write_bytes(b"")
    done = task(root, tmp_path, skip_bad=True)
    assert len(done.train) + len(done.val) + len(done.test) == 26
    for split in (done.train, done.val, done.test):
        assert len(split.rows) == len(split.labels) == len(split.names)
        assert not {"cat/000.jpg", "dog/bad.jpg"} & set(split.names)
        for pixels, name in zip(split.rows, split.names, strict=True):
            np.testing.assert_array_equal(pixels, resize_crop(decode(root / name), SMALL))
    assert len(done.train.canvas) == len(done.train.aspect) == len(done.train)
    assert any("left out, unreadable: 7.1% of all images: 2 (cat/000.jpg ...)" in note for note in done.notes)


def test_skip_bad_does_not_lose_a_class(tmp_path):
    root = class_folders(tmp_path / "data", {"cat": 5, "dog": 5})
    for file in (root / "cat").iterdir():
        file.write_bytes(b"gone " + file.name.encode())
    with pytest.raises(DataError, match="no readable training image in 'cat'") as caught:
        task(root, tmp_path, skip_bad=True)
    assert caught.value.code == "E313"


def test_file_changed_between_listing_and_decoding(root, tmp_path, monkeypatch):
    original = decode_cache.DecodePlan.build

    def late(self, scratch):
        (root / "cat" / "003.jpg").write_bytes(jpeg(123))
        return original(self, scratch)

    monkeypatch.setattr(decode_cache.DecodePlan, "build", late)
    with pytest.raises(DataError, match="changed") as caught:
        task(root, tmp_path)
    assert caught.value.code == "E322"
    monkeypatch.undo()
    assert len(task(root, tmp_path).train) == 22


def test_same_file_in_train_and_test(tmp_path):
    root = class_folders(tmp_path / "data", {f"{s}/{c}": 4 for s in ("train", "val", "test") for c in "ab"})
    shutil.copy(root / "train/a/001.jpg", root / "test/a/leak.jpg")
    with pytest.raises(DataError, match=r"test/a/leak.jpg: same file as train/a/001.jpg: in train and test") as caught:
        task(root, tmp_path)
    assert caught.value.code == "E320"
    done = task(root, tmp_path, allow_leakage=True)
    assert any("E320 same file in train and test: 1 (test/a/leak.jpg)" in note for note in done.notes)


def test_same_pixels_in_two_splits_are_noted(tmp_path):
    root = class_folders(tmp_path / "data", {f"{s}/{c}": 4 for s in ("train", "val", "test") for c in "ab"})
    (root / "train/a/x.png").write_bytes(encoded(photo(500), "PNG"))
    (root / "test/a/y.bmp").write_bytes(encoded(photo(500), "BMP"))
    assert any(
        note.startswith("W320 same pixels in two splits: 1 (test/a/y.bmp)") for note in task(root, tmp_path).notes
    )


def test_warnings_of_decoding_become_notes(root, tmp_path):
    (root / "dog" / "deep.png").write_bytes(encoded(Image.fromarray(np.zeros((30, 30), np.uint16)), "PNG"))
    assert "W304 16 bits scaled to 8: 1 (dog/deep.png)" in task(root, tmp_path).notes


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        ({}, "E310"),
        ({"cat": 3}, "E312"),
        ({"cat": 3, "dog": 0}, "E311"),
        ({"cat": 3, "dog": 1}, "E313"),
        ({"train/a": 3, "train/b": 3, "val/a": 2, "val/c": 2}, "E321"),
        ({"train/a": 3, "train/b": 3, "test/a": 2}, "E321"),
        ({"val/a": 3, "test/a": 3}, "E312"),
        ({"val/a": 3, "test/b": 3}, "E310"),
    ],
)
def test_layout_errors(tmp_path, counts, code):
    (tmp_path / "data").mkdir()
    class_folders(tmp_path / "data", counts)
    with pytest.raises(DataError) as caught:
        task(tmp_path / "data", tmp_path)
    assert caught.value.code == code
    assert caught.value.hint


def test_class_missing_in_val_is_accepted_with_allow_empty(tmp_path):
    root = class_folders(tmp_path / "data", {"train/a": 4, "train/b": 4, "val/a": 4})
    done = task(root, tmp_path, allow_empty=True)
    assert any("classes in train that val lacks: 'b'" in note for note in done.notes)


def test_table_with_splits(tmp_path):
    rows = images_table(tmp_path, 24)
    lines = [f"{path},{label},{('train', 'train', 'val', 'test')[n // 2 % 4]}" for n, (path, label) in enumerate(rows)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split", *lines]))
    done = task(tmp_path / "t.csv", tmp_path)
    assert [len(done.train), len(done.val), len(done.test)] == [12, 6, 6]
    assert done.name == "t"
    assert list(done.val.names)[:2] == ["images/004.jpg", "images/005.jpg"]


def test_table_with_missing_files(tmp_path):
    rows = images_table(tmp_path, 12)
    lines = [f"{path},{label}" for path, label in rows] + [f"images/no{n}.jpg,cat" for n in range(7)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *lines]))
    with pytest.raises(DataError, match=r"7 problems: images/no0.jpg: no such file") as caught:
        task(tmp_path / "t.csv", tmp_path)
    assert caught.value.code == "E333"
    assert "and 2 more" in caught.value.problem


def test_digits(tmp_path):
    done = task("digits", tmp_path, preprocess=Preprocess(size=32))
    assert len(done.train) + len(done.val) + len(done.test) == 1797
    assert done.classes == tuple("0123456789")
    assert done.train.canvas.shape == (len(done.train), 32, 32, 3)
    assert set(np.unique(done.test.labels)) == set(range(10))
    assert len(done.notes) == 1
    assert done.notes[0].startswith("W339 no val and test splits: taken from all with seed 0, by class (train 1438")


def test_unknown_builtin_gets_a_suggestion(tmp_path):
    with pytest.raises(DataError, match="did you mean 'digits'"):
        task("digit", tmp_path)


def test_a_full_disk_is_seen_before_anything_is_decoded_and_no_obstacle(root, tmp_path, monkeypatch):
    first, said = task(root, tmp_path), []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with show_through(lambda *_: None, said.append):
        again = load(DataSettings(source=str(root)), SMALL, cache=tmp_path / "full")
    np.testing.assert_array_equal(again.train.canvas, first.train.canvas)
    assert again.digest == first.digest
    assert len(said) == 1
    assert said[0].startswith("decoded images need 0 MB in ")


def test_rows_that_are_said_to_be_left_out_and_are_not(root, tmp_path):
    """A manifest with the right digest whose numbers disagree: nothing is misaligned, the entry is made again."""
    first = task(root, tmp_path)
    (entry,) = (tmp_path / "cache" / "pixels").glob("*/arrays")
    facts = read_sealed(entry / "manifest.json")
    facts["facts"]["bad"] = [[first.train.names[0], "E301", "said to be bad"]]
    write_sealed(entry / "manifest.json", facts)
    again = task(root, tmp_path, skip_bad=True)
    assert again.train.names == first.train.names
    np.testing.assert_array_equal(again.train.rows, first.train.rows)


def test_without_a_home_everything_works(root, tmp_path, monkeypatch):
    def homeless(_path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("EFFXFER_CACHE")
    monkeypatch.setattr(Path, "expanduser", lambda path: homeless(path) if path.parts[0] == "~" else path)
    said = []
    with show_through(lambda *_: None, said.append):
        assert load(DataSettings(source=str(root)), SMALL).digest == task(root, tmp_path).digest
    assert len(said) == 1
    assert "EFFXFER_CACHE" in said[0]


def _load_elsewhere(root, cache, queue):
    done = load(DataSettings(source=str(root), workers=1), SMALL, cache=Path(cache))
    queue.put((done.digest, int(done.train.rows.sum())))


def test_two_processes_share_one_entry(root, tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    both = [context.Process(target=_load_elsewhere, args=(root, tmp_path / "cache", queue)) for _ in range(2)]
    for process in both:
        process.start()
    answers = [queue.get(timeout=60) for _ in both]
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert answers[0] == answers[1]
    entries = list((tmp_path / "cache" / "pixels").iterdir())
    assert len(entries) == 1
    assert sorted(path.name for path in entries[0].iterdir() if not path.name.startswith(".")) == ["arrays"]
