import pytest

from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError
from effxfer.settings import build


def test_defaults_need_only_a_source():
    assert build(DataSettings, {"source": "digits"}, "data") == DataSettings(source="digits")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({}, "source is required"),
        ({"source": ""}, "source"),
        ({"source": "x", "val_fraction": 0}, "val_fraction"),
        ({"source": "x", "test_fraction": 0.6}, "test_fraction"),
        ({"source": "x", "val_fraction": 0.5, "test_fraction": 0.5}, "leave at least 0.1 for training"),
        ({"source": "x", "class_from": "last"}, "class_from"),
        ({"source": "x", "max_per_class": 0}, "max_per_class"),
        ({"source": "x", "max_pixels": 10**9}, "max_pixels"),
        ({"source": "x", "canvas_scale": 0.5}, "canvas_scale"),
        ({"source": "x", "label_column": "path"}, "three different columns"),
        ({"source": "x", "skipbad": True}, "did you mean 'skip_bad'"),
    ],
)
def test_mistakes_are_named(table, said):
    with pytest.raises(SettingsError, match=said):
        build(DataSettings, table, "data")
