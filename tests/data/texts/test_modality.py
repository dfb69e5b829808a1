import pytest

from effxfer.data.settings import DataSettings
from effxfer.data.texts.modality import holds_texts
from tests.data.corpus import class_folders, images_table
from tests.data.text_files import write_lines, write_table

ROWS = [("a cat", "1"), ("a mat", "0")]


def decides(source, **options) -> bool:
    return holds_texts(DataSettings(source=str(source), **options))


def test_images_stay_images(tmp_path):
    class_folders(tmp_path / "photos", {"train": 2, "cat": 2})
    table = write_table(tmp_path / "t.csv", ("path", "label", "text"), images_table(tmp_path))
    assert not decides(tmp_path / "photos")
    assert not decides(tmp_path / "photos" / "train")
    assert not decides(table)
    assert not decides(tmp_path / "missing")
    assert not decides(tmp_path / "missing.csv")
    assert not decides("digits")


@pytest.mark.parametrize("name", ["t.txt", "t.train", "t", "t.jsonl", "t.conll"])
def test_a_file_that_is_no_table_holds_texts(tmp_path, name):
    assert decides(write_lines(tmp_path / name, ROWS))


@pytest.mark.parametrize("name", ["t.zip", "t.tar.gz", "t.jpg", "t.PNG"])
def test_an_archive_and_an_image_hold_none(tmp_path, name):
    assert not decides(write_lines(tmp_path / name, ROWS))


@pytest.mark.parametrize(
    ("header", "expected"),
    [(("text", "label"), True), (("label", '"text"'), True), (("path", "label"), False), (("a", "b"), False),
     (("path", "text"), False)],
)  # fmt: skip
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_columns_of_a_table_decide(tmp_path, header, expected, delimiter):
    (tmp_path / "t.csv").write_text(f"\n{delimiter.join(header)}\n", encoding="utf-8-sig")
    assert decides(tmp_path / "t.csv") == expected


def test_the_columns_of_parquet_decide(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"label": ["x"], "text": ["a"]}), tmp_path / "t.parquet")
    assert decides(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(b"no Parquet")
    assert not decides(tmp_path / "t.parquet")


def test_a_folder_of_files_alone_with_one_for_training_holds_texts(tmp_path):
    write_lines(tmp_path / "reviews.train", ROWS)
    write_lines(tmp_path / ".DS_Store", ROWS)
    assert decides(tmp_path)
    write_table(tmp_path / "test.csv", ("path", "label"), [])
    assert not decides(tmp_path), "a table of paths"
    (tmp_path / "test.csv").unlink()
    (tmp_path / "photos").mkdir()
    assert not decides(tmp_path), "a folder of images"


def test_a_folder_without_a_file_for_training_holds_none(tmp_path):
    write_lines(tmp_path / "notes.txt", ROWS)
    assert not decides(tmp_path)


def test_a_pattern_and_the_name_of_a_missing_file_of_texts_say_texts(tmp_path):
    assert decides(tmp_path / "sst2.*")
    assert decides(tmp_path / "missing.txt")
    assert decides(tmp_path / "missing.jsonl")
    assert decides("sst.txt")
    assert holds_texts(DataSettings(source="t.x"), write_lines(tmp_path / "t.x", ROWS).parent)


def test_settings_go_before_the_source(tmp_path):
    folder = class_folders(tmp_path / "photos", {"cat": 2})
    assert decides(folder, format="lines")
    assert decides(folder, text_column="body")
    table = write_table(tmp_path / "t.csv", ("text", "label"), [])
    assert decides(table)
    assert not decides(table, format="images")
    assert not decides(table, path_column="text")
