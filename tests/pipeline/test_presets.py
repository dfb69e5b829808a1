"""Texts have presets of their own, and the data set says what it holds."""

import pytest

from effxfer.errors import SettingsError
from effxfer.pipeline.presets import OF_TEXTS, find_preset
from tests.data.text_files import texts, write_lines


@pytest.mark.parametrize(
    ("data", "changes", "of_texts"),
    [
        ("", (), False),
        ("digits", (), False),
        ("requests", (), True),
        ("", ("data.source=requests",), True),
        ("reviews.txt", (), True),
        ("photos", ("data.text_column=body",), True),
        ("photos", ("data.text_colum=body",), False),
        ("reviews.txt", ("dense.fit.epochs=1", "data.format=images"), False),
    ],
)
def test_the_data_choose_the_preset(data, changes, of_texts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "reviews.txt", texts(2))
    assert (find_preset("small", data, changes).parent.name == OF_TEXTS) == of_texts


def test_an_unknown_preset_is_named_with_those_that_exist():
    with pytest.raises(SettingsError, match="did you mean 'small'"):
        find_preset("smal", "requests")
