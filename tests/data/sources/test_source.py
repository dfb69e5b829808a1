from pathlib import Path

import pytest

from effxfer.data.load import scan
from effxfer.data.settings import DataSettings
from effxfer.data.sources.source import read_source
from effxfer.errors import DataError
from tests.data.corpus import class_folders, images_table
from tests.data.label_tables import AGE, FLAGS, TAGS, write_table


def test_a_folder_a_table_and_a_name_are_told_apart(tmp_path):
    table = write_table(tmp_path / "t.csv", images_table(tmp_path), ("path", "label"))
    folder = class_folders(tmp_path / "odd.csv", {"cat": 2, "dog": 2})
    assert read_source(DataSettings(source="t.csv"), tmp_path)[0] == table.parent
    assert read_source(DataSettings(source="odd.csv"), tmp_path)[0] == folder
    root, listing = read_source(DataSettings(source="digits"), Path())
    assert root is None
    assert len(listing.items) == 1797


@pytest.mark.parametrize("kind", [TAGS, FLAGS, AGE])
@pytest.mark.parametrize(
    ("source", "text"),
    [("digits", "digits is a built-in data set"), ("photos", "photos is a folder"), ("odd.csv", "is a folder")],
)  # fmt: skip
def test_only_a_table_has_other_kinds_of_label(tmp_path, kind, source, text):
    for folder in ("photos", "odd.csv"):
        class_folders(tmp_path / folder, {"cat": 3, "dog": 3})
    with pytest.raises(DataError, match=f"{text}, which has one class for each image, and labels is") as caught:
        scan(DataSettings(source=source, **kind), tmp_path, cache=tmp_path / "cache")
    assert caught.value.code == "E344"
    assert "or leave labels out" in caught.value.hint
