"""Tasks with several labels or values: arrays, digests, splits of later stages."""

from pathlib import Path

import numpy as np
import pytest

from effxfer.data.decoded import decode_cache
from effxfer.data.history import History, record_of
from effxfer.data.load import load, scan, survey
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.outputs.multi_label import MultiLabel
from tests.data.corpus import class_folders
from tests.data.label_tables import AGE, FLAGS, TAGS, VALUES, labelled_images, settings_of, tags_of, write_table

SMALL = Preprocess(size=16)
GOLDEN = {  # of the version that knew single labels only
    "folder": ({}, "f273394e9f839bb3"),
    "few": ({"split_seed": 3, "max_per_class": 4, "unlabelled": "rest"}, "c048225ab485261a"),
    "table": ({"source": "t.csv"}, "dff25bc4604bcf10"),
    "digits": ({"source": "digits"}, "8823031c93230cc9"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_digest_of_single_labels_is_as_it_always_was(tmp_path, name):
    for n in range(40):
        file = tmp_path / "d" / ("cat" if n % 2 else "dog") / f"{n:02d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(f"image {n % 37}".encode())
    paths = [f"{'cat' if n % 2 else 'dog'}/{n:02d}.jpg" for n in range(40)]
    rows = [(path, "a|b" if n % 3 else "1") for n, path in enumerate(paths)]
    write_table(tmp_path / "d" / "t.csv", rows, ("path", "label"))
    options, digest = GOLDEN[name]
    source = {"": str(tmp_path / "d"), "t.csv": str(tmp_path / "d" / "t.csv")}
    options = options | {"source": source.get(options.get("source", ""), "digits")}
    listing = survey(DataSettings(**options), cache=tmp_path / "cache")
    assert listing.digest == listing.key == digest


def load_task(table, tmp_path, kind, **options):
    return load(settings_of(table, kind, **options), SMALL, cache=tmp_path / "cache")


def numbers_of(split):
    return [int(Path(name).stem) for name in split.names]


def test_names_in_one_column_become_flags(tmp_path):
    task = load_task(labelled_images(tmp_path), tmp_path, TAGS)
    assert task.output == MultiLabel(classes=("beach", "dog"))
    for split in (task.train, task.val, task.test):
        assert split.labels.dtype == np.uint8
        expected = [[name in tags_of(n).split("|") for name in task.classes] for n in numbers_of(split)]
        np.testing.assert_array_equal(split.labels, expected)
    assert [len(task.train), len(task.val), len(task.test)] == [48, 6, 6]


def test_a_column_for_each_label_is_sorted_and_may_hold_unknown_labels(tmp_path):
    task = load_task(labelled_images(tmp_path), tmp_path, FLAGS)
    assert task.output == MultiLabel(classes=("dog", "sea"))
    for split in (task.train, task.val, task.test):
        expected = [[255 if n % 5 == 0 else n % 3 == 2, n % 2] for n in numbers_of(split)]
        np.testing.assert_array_equal(split.labels, expected)


def test_values_keep_the_order_of_their_columns_and_are_standardised_over_train(tmp_path):
    task = load_task(labelled_images(tmp_path), tmp_path, VALUES)
    assert task.classes == ("weight", "age")
    for split in (task.train, task.val, task.test):
        expected = [[np.nan if n % 4 == 0 else n / 8, n] for n in numbers_of(split)]
        np.testing.assert_array_equal(split.labels, np.array(expected, np.float32))
    np.testing.assert_allclose(task.output.mean, np.nanmean(task.train.labels, 0), rtol=1e-6)
    np.testing.assert_allclose(task.output.deviation, np.nanstd(task.train.labels, 0), rtol=1e-6)


@pytest.mark.parametrize("kind", [TAGS, FLAGS, VALUES, AGE])
def test_a_second_load_decodes_nothing_and_has_the_same_labels(tmp_path, kind, monkeypatch):
    table = labelled_images(tmp_path)
    first = load_task(table, tmp_path, kind)
    monkeypatch.setattr(decode_cache.decode, "decode_item", None)
    again = load_task(table, tmp_path, kind)
    assert (again.digest, again.output) == (first.digest, first.output)
    np.testing.assert_array_equal(again.train.labels, first.train.labels)


@pytest.mark.parametrize(
    ("kind", "changes", "equal"),
    [
        (TAGS, {1: {"tags": "dog"}}, False),
        (TAGS, {0: {"tags": " beach| dog |"}}, True),
        (TAGS, {1: {"age": 99}}, True),
        (TAGS, {2: {"tags": "cat"}}, False),
        (FLAGS, {1: {"sea": ""}}, False),
        (FLAGS, {1: {"sea": "yes"}, 2: {"sea": "0.0"}}, True),
        (VALUES, {1: {"age": 1.5}}, False),
        (VALUES, {1: {"weight": "1.25e-1", "age": "+1.0"}}, True),
        (VALUES, {1: {"weight": "nan"}}, False),
    ],
)
def test_the_digest_depends_on_labels_and_not_on_their_spelling(tmp_path, kind, changes, equal):
    def digest(name, changes=None):
        table = labelled_images(tmp_path / name, changes=changes, splits=["train"] * 40 + ["val"] * 10 + ["test"] * 10)
        return scan(settings_of(table, kind), cache=tmp_path / "cache").digest

    assert (digest("before") == digest("after", changes)) is equal


def test_the_digest_depends_on_the_kind_and_on_the_names_of_columns(tmp_path):
    table = labelled_images(tmp_path, splits=["train"] * 40 + ["val"] * 20)
    rename = {"sea": "ocean"}
    rows = [[rename.get(cell, cell) for cell in line.split(",")] for line in table.read_text().splitlines()]
    renamed = write_table(tmp_path / "renamed.csv", rows[1:], rows[0])
    flags = {"labels": "multi", "label_columns": ("sea",)}
    kinds = [
        (table, AGE), (table, {"label_column": "sea"}), (table, {"label_column": "sea", "labels": "value"}),
        (table, flags), (renamed, flags | {"label_columns": ("ocean",)}),
    ]  # fmt: skip
    digests = [scan(settings_of(file, kind), cache=tmp_path / "cache").digest for file, kind in kinds]
    assert len(set(digests)) == len(kinds)


@pytest.mark.parametrize(("kind", "labels"), [(TAGS, [[255, 255]]), (VALUES, [[np.nan, np.nan]])])
def test_images_without_labels_have_unknown_ones(tmp_path, kind, labels):
    more = class_folders(tmp_path / "more", {"any": 3}, seed=300)
    task = load_task(labelled_images(tmp_path / "data"), tmp_path, kind, unlabelled=str(more))
    np.testing.assert_array_equal(task.unlabelled.labels, np.array(labels * 3, task.train.labels.dtype))


def test_a_value_that_unreadable_images_leave_constant_is_named(tmp_path):
    splits = ["train"] * 3 + ["val"] * 3 + ["test"] * 3
    table = labelled_images(tmp_path, 9, {n: {"age": 7} for n in (0, 1)}, splits)
    (tmp_path / "images" / "002.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="'age' has fewer than two different values in train") as caught:
        load_task(table, tmp_path, AGE, skip_bad=True)
    assert caught.value.code == "E343"


@pytest.mark.parametrize("kind", [TAGS, FLAGS, VALUES])
def test_a_later_stage_keeps_the_splits_of_every_kind(tmp_path, kind):
    table = labelled_images(tmp_path, 80)
    rows = table.read_text().splitlines(keepends=True)
    table.write_text("".join(rows[:61]))
    before = scan(settings_of(table, kind), cache=tmp_path / "cache")
    history = History((record_of(before),))
    table.write_text("".join(rows))
    after = scan(settings_of(table, kind), cache=tmp_path / "cache", history=history)
    splits = {item.path: item.split for item in after.items}
    assert len(splits) == 80
    assert {item.path: splits[item.path] for item in before.items} == {item.path: item.split for item in before.items}
