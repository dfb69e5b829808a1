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


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"label_columns": ["a", "b"]}, "label_columns needs labels = 'multi' or 'value'"),
        ({"labels": "value", "label_columns": ["a"], "label_column": "b"}, "label_column and label_columns exclude"),
        ({"labels": "multi", "label_columns": ["a", "path"]}, "different columns"),
        ({"labels": "multi", "label_columns": ["a", "a"]}, "different columns"),
        ({"labels": "multi", "label_columns": [""]}, "label_columns.0"),
        ({"labels": "multi", "label_columns": ["a"], "label_separator": ";"}, "label_separator needs labels = 'multi'"),
        ({"labels": "value", "label_separator": ";"}, "label_separator needs labels = 'multi'"),
        ({"label_separator": "|"}, "label_separator needs labels = 'multi'"),
        ({"labels": "multi", "max_per_class": 5}, "leave out max_per_class: with labels = 'multi'"),
        ({"labels": "value", "unlabelled": "rest"}, "leave out unlabelled = 'rest': with"),
        ({"labels": "value", "unlabelled": "rest", "max_per_class": 5}, "max_per_class and unlabelled = 'rest': with"),
        ({"labels": "multi", "target": "y"}, "a target needs labels = 'single'"),
        ({"target": {"source": "y.csv", "labels": "value"}}, "a target needs labels = 'single'"),
        ({"labels": "tags"}, "labels"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_kind_of_label_is_refused(table, said):
    with pytest.raises(SettingsError) as caught:
        build(DataSettings, {"source": "x.csv", **table}, "data")
    assert said in caught.value.problem


def test_label_columns_are_sorted_for_labels_and_stay_for_values():
    columns = {"label_columns": ["b", "a"]}
    assert build(DataSettings, {"source": "x", "labels": "multi", **columns}, "data").names_of_labels == ("a", "b")
    assert build(DataSettings, {"source": "x", "labels": "value", **columns}, "data").names_of_labels == ("b", "a")
    assert DataSettings(source="x", label_column="kind").names_of_labels == ("kind",)


def test_settings_of_labels_survive_a_manifest():
    settings = build(DataSettings, {"source": "x.csv", "labels": "value", "label_columns": ["b", "a"]}, "data")
    assert build(DataSettings, settings.plain(), "data") == settings
