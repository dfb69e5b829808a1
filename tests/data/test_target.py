import shutil
from dataclasses import replace

import numpy as np
import pytest

from effxfer.data.load import load, scan
from effxfer.data.settings import DataSettings
from effxfer.data.target import choose_classes, concat_splits
from effxfer.errors import DataError, SettingsError
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.settings import build
from tests import tiny

PREPROCESS = Preprocess(size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The same classes once more, other images."""
    return tiny.write_images(tmp_path_factory.mktemp("other") / "sketch", per_class=10, seed=5)


@pytest.fixture
def moved(other, tmp_path):
    """The same images, in a folder to change."""
    return shutil.copytree(other, tmp_path / "sketch")


def aimed(folder, other, **more):
    target = {"source": str(other), "val_fraction": 0.2, "test_fraction": 0.4}
    table = {"source": str(folder), "val_fraction": 0.2, "test_fraction": 0.2, "target": target}
    return build(DataSettings, {**table, **more}, "data")


def test_a_target_is_a_name_or_a_table(folder, other):
    named = build(DataSettings, {"source": str(folder), "target": str(other)}, "data")
    assert named.target == DataSettings(source=str(other))
    assert build(DataSettings, named.plain(), "data") == named


def test_the_targets_training_images_lose_their_labels(folder, other):
    task = load(aimed(folder, other), PREPROCESS)
    alone = load(tiny.data_of(folder), PREPROCESS)
    assert (alone.target, alone.unlabelled) == (None, None)
    assert np.array_equal(task.train.rows, alone.train.rows)
    assert [len(one) for one in (task.target.train, task.target.val, task.target.test)] == [12, 6, 12]
    assert (task.unlabelled.labels == -1).all()
    assert task.unlabelled.names == task.target.train.names
    assert task.unlabelled.canvas is not None
    assert "W339 target sketch: 12 test images of 3 known classes" in task.notes
    assert any(note.startswith("target: W339 no val and test splits") for note in task.notes)


def test_what_lies_in_the_target_belongs_to_the_key(folder, moved):
    before, alone = scan(aimed(folder, moved)), scan(tiny.data_of(folder))
    assert before.digest == alone.digest
    assert before.key != alone.key == alone.digest
    next((moved / "red").iterdir()).unlink()
    assert scan(aimed(folder, moved)).key != before.key
    assert load(aimed(folder, moved), PREPROCESS).digest == scan(aimed(folder, moved)).key


def test_labels_index_the_sources_classes(folder, moved):
    shutil.rmtree(moved / "blue")
    task = load(aimed(folder, moved), PREPROCESS)
    assert task.target.classes == task.classes == tiny.CLASSES
    assert set(task.target.test.labels.tolist()) == {1, 2}
    reddest = task.target.test.rows.mean((1, 2)).argmax(1)
    assert [tiny.CLASSES[label] == "red" for label in task.target.test.labels] == (reddest == 0).tolist()


def test_new_classes_are_kept_whole(folder, moved):
    for name in tiny.CLASSES:
        (moved / name).rename(moved / f"new-{name}")
    task = load(aimed(folder, moved), PREPROCESS)
    assert task.target.classes == tuple(sorted(f"new-{name}" for name in tiny.CLASSES))
    assert task.unlabelled is None
    every = concat_splits(task.target)
    assert len(every) == len(set(every.names)) == 30
    assert all(tiny.CLASSES[label] in name for label, name in zip(every.labels, every.names, strict=True))


def test_known_and_new_ones_together_need_a_word(folder, moved):
    (moved / "red").rename(moved / "rust")
    with pytest.raises(DataError, match=r"has known classes \('blue', 'green'\) and new ones \('rust'\)") as caught:
        scan(aimed(folder, moved))
    assert caught.value.code == "E321"
    assert "target_classes" in caught.value.hint
    same = load(aimed(folder, moved, target_classes="same"), PREPROCESS)
    assert set(same.target.test.labels.tolist()) == {0, 1}
    assert len(same.unlabelled) == 8
    assert any("8 test images of 2 known classes, 1 class left out" in note for note in same.notes)
    new = load(aimed(folder, moved, target_classes="new"), PREPROCESS)
    assert new.target.classes == ("rust",)
    assert all("rust" in name for name in concat_splits(new.target).names)
    with pytest.raises(DataError, match="no class of the target is new"):
        choose_classes(tiny.CLASSES, tiny.CLASSES, "new")


def test_classes_of_another_spelling_are_named(folder, moved):
    (moved / "red").rename(moved / "Red")
    with pytest.raises(DataError, match="'Red' and 'red' differ only in spelling") as caught:
        scan(aimed(folder, moved))
    assert caught.value.hint == "rename the classes of the target"
    for name in ("blue", "green"):
        (moved / name).rename(moved / name.upper())
    notes = scan(aimed(folder, moved)).notes
    text = "W318 classes of the target differ from known ones only in spelling: 'BLUE' and 'blue', 'GREEN' and 'green'"
    assert any(note.startswith(text) for note in notes)


def test_a_target_that_is_the_source_is_noted(folder, moved):
    def own(target):
        fractions = {"val_fraction": 0.2, "test_fraction": 0.2}
        settings = aimed(folder, target, target={"source": str(target), **fractions})
        return [note for note in scan(settings).notes if note.startswith("W320")]

    assert own(folder) == ["W320 the target shapes holds nothing but images of the source: it is no other domain"]
    assert not own(moved)


def test_a_target_of_few_images_is_not_advised_like_a_source(folder, tmp_path):
    few = tiny.write_images(tmp_path / "few", per_class=2, seed=4)
    notes = load(aimed(folder, few), PREPROCESS).notes
    assert any("target few: 0 test images of 3 known classes" in note for note in notes)
    assert not [note for note in notes if "validation split alone" in note or "cross-validate" in note]


def test_a_source_is_no_target_of_new_images_of_itself(folder):
    settings = aimed(folder, folder)
    with pytest.raises(DataError, match="same file in the source and in the target"):
        scan(settings)
    notes = scan(settings.model_copy(update={"allow_leakage": True})).notes
    assert any("E320 same file in the source and in the target" in note for note in notes)


def test_domains_are_remembered(tmp_path, other):
    shutil.copytree(other, tmp_path / "all" / "ink")
    tiny.write_images(tmp_path / "all" / "oil", per_class=6, seed=8)
    task = load(DataSettings(source=str(tmp_path / "all"), class_from="parent", test_fraction=0.3), PREPROCESS)
    assert [name.split("/")[0] for name in task.test.names] == task.test.domains
    assert set(task.test.domains) == {"ink", "oil"}


@pytest.fixture(scope="module")
def three_domains(tmp_path_factory, other):
    root = tmp_path_factory.mktemp("domains") / "all"
    shutil.copytree(other, root / "ink")
    for number, name in enumerate(("oil", "photo")):
        tiny.write_images(root / name, per_class=6, seed=8 + number)
    return root


def test_a_domain_of_a_source_is_its_target(three_domains, other):
    settings = DataSettings(source=str(three_domains), class_from="parent", target_domain="ink", test_fraction=0.3)
    task = load(settings, PREPROCESS)
    assert {name.split("/")[0] for name in (*task.train.names, *task.val.names, *task.test.names)} == {"oil", "photo"}
    assert set(task.train.domains) == {"oil", "photo"}
    assert {name.split("/")[0] for name in (*task.target.test.names, *task.unlabelled.names)} == {"ink"}
    assert (task.unlabelled.labels == -1).all()
    whole = load(settings.model_copy(update={"target_domain": None}), PREPROCESS)
    assert sorted((*task.test.names, *task.target.test.names)) == sorted(whole.test.names)
    assert task.digest == scan(settings).key != whole.digest
    assert "W339 target all/ink: 9 test images of 3 known classes" in task.notes
    assert scan(settings).key == scan(settings).key != scan(settings.model_copy(update={"target_domain": "oil"})).key
    assert {record.name for record in task.records} == {"all", "all/ink"}


@pytest.mark.parametrize("domain", ["inc", "Ink"])
def test_a_domain_that_is_not_there_is_named(three_domains, domain):
    settings = DataSettings(source=str(three_domains), class_from="parent", target_domain=domain)
    with pytest.raises(SettingsError, match="has no domain") as caught:
        scan(settings)
    assert "ink, oil, photo" in caught.value.hint


def test_a_domain_needs_folders_of_domains(folder, other):
    for more in ({}, {"class_from": "parent", "target": str(other)}):
        with pytest.raises(SettingsError, match="target_domain needs class_from"):
            build(DataSettings, {"source": str(folder), "target_domain": "ink", **more}, "data")


def test_classes_may_be_paths(tmp_path):
    for name in ("greek", "latin"):
        tiny.write_images(tmp_path / "letters" / name, per_class=4, seed=len(name))
    (tmp_path / "letters" / "greek" / "red").rename(tmp_path / "letters" / "greek" / "alpha")
    listing = scan(DataSettings(source=str(tmp_path / "letters"), class_from="path"))
    assert listing.classes == ("greek/alpha", "greek/blue", "greek/green", "latin/blue", "latin/green", "latin/red")


def test_another_preprocessing_reaches_the_target(folder, other):
    task = load(aimed(folder, other), PREPROCESS)
    brighter = replace(PREPROCESS, mean=(0.1, 0.1, 0.1))
    assert task.with_input(brighter).target.input == brighter


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"target_classes": "new", "target": None}, "no effect without a target"),
        ({"target": {"source": "a", "target": "b"}}, "cannot have a target or unlabelled"),
        ({"target": {"source": "a", "unlabelled": "b"}}, "cannot have a target or unlabelled"),
        ({"target": {"sauce": "a"}}, "source"),
    ],
)
def test_what_makes_no_sense_is_refused(more, words):
    with pytest.raises(SettingsError, match=words):
        build(DataSettings, {"source": "x", **more}, "data")
