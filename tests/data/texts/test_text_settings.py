import pytest

from effxfer.data.texts.text_settings import TextSettings
from effxfer.errors import SettingsError
from effxfer.settings import build


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"source": "x", "text_column": "label"}, "must be different columns"),
        ({"source": "x", "pair_column": "text"}, "must be different columns"),
        ({"source": "x", "word_column": 1, "tag_column": 1}, "word_column and tag_column"),
        ({"source": "x", "encoding": "ebcdic"}, "encoding"),
        ({"source": ""}, "source"),
        ({"source": "x", "format": "xml"}, "format"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(table, text):
    with pytest.raises(SettingsError, match=text):
        build(TextSettings, table, "[data]")


def test_single_texts_in_utf_8_are_the_default():
    settings = TextSettings(source="x")
    assert (settings.format, settings.pair_column, settings.encoding) == ("auto", None, "utf-8")
