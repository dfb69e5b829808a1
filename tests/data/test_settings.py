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
        ({"label_columns": ["a"]}, "one task is no several"),
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
        ({"labels": "boxes"}, "labels"),
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


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"text_column": "label"}, "text_column, pair_column, label_column and split_column must be different columns"),
        ({"pair_column": "text"}, "must be different columns"),
        ({"word_column": 1, "tag_column": 1}, "word_column and tag_column"),
        ({"encoding": "ebcdic"}, "encoding"),
        ({"format": "xml"}, "format"),
        ({"format": "lines", "max_pixels": 5}, "leave out max_pixels: it is a setting of images"),
        ({"text_column": "body", "root": "x"}, "leave out root: it is a setting of images"),
        ({"format": "images", "text_column": "body"}, "leave out text_column: it is a setting of texts"),
    ],
)
def test_settings_of_texts_that_cannot_be_meant_are_refused(table, text):
    with pytest.raises(SettingsError, match=text):
        build(DataSettings, {"source": "x.csv", **table}, "[data]")


def test_columns_of_texts_may_have_the_names_of_those_of_images():
    assert build(DataSettings, {"source": "x.csv", "label_column": "path", "text_column": "body"}, "data").says_texts
    assert not build(DataSettings, {"source": "x.csv", "label_column": "text"}, "data").says_texts


def test_a_manifest_of_settings_of_images_says_no_texts():
    plain = build(DataSettings, {"source": "x", "canvas_scale": 2.0}, "data").plain()
    assert build(DataSettings, plain, "data").mistake_of_texts().startswith("leave out canvas_scale")
    assert not build(DataSettings, plain, "data").says_texts
