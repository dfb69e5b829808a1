import numpy as np
import pytest

from effxfer.data.history import History
from effxfer.data.load import load, scan
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError, SettingsError
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.vectors.vectors import Vectors
from effxfer.settings import build
from tests.data.text_files import texts, write_lines
from tests.tiny_vectors import CLASSES, WIDTH, vectors, write_npz

INPUT = Vectors(size=WIDTH, standardize=True)


def load_task(file, input=INPUT, **options):
    return load(build(DataSettings, {"source": str(file), **options}, "data"), input)


def test_a_task_has_every_vector_with_its_class(tmp_path):
    task = load_task(write_npz(tmp_path / "bugs.npz"))
    features, labels = vectors(90)
    assert (task.name, task.classes) == ("bugs", CLASSES)
    assert sum(len(split) for split in (task.train, task.val, task.test)) == 90
    for split in (task.train, task.val, task.test):
        places = [int(name.removeprefix("bugs.npz:")) for name in split.names]
        np.testing.assert_array_equal(split.rows, features[places])
        assert split.labels.tolist() == labels[places].tolist()


def test_the_training_split_alone_standardises(tmp_path):
    task = load_task(write_npz(tmp_path / "a.npz"))
    np.testing.assert_allclose(task.input.mean, task.train.rows.mean(0, dtype=np.float64), rtol=1e-6)
    again = load_task(write_npz(tmp_path / "b.npz", seed=1, shift=5.0), task.input)
    assert again.input == task.input
    assert load_task(tmp_path / "b.npz", Vectors(size=WIDTH)).input.mean == ()


def test_splits_of_the_file_are_kept(tmp_path):
    splits = np.array(["train"] * 60 + ["Validation"] * 15 + ["test"] * 15)
    task = load_task(write_npz(tmp_path / "a.npz", splits=splits))
    assert [len(split) for split in (task.train, task.val, task.test)] == [60, 15, 15]
    assert task.val.names[0] == "a.npz:60"


def test_equal_vectors_share_a_split_and_do_not_depend_on_order(tmp_path):
    features, labels = vectors(60)
    order = np.random.default_rng(0).permutation(60)
    first = scan(DataSettings(source=str(write_npz(tmp_path / "a.npz", 60))))
    second = scan(
        DataSettings(source=str(write_npz(tmp_path / "b.npz", features=features[order], labels=labels[order])))
    )
    assert {i.sha256: i.split for i in first.items} == {i.sha256: i.split for i in second.items}
    doubled = write_npz(tmp_path / "c.npz", features=np.tile(features, (2, 1)), labels=np.tile(labels, 2))
    by_row = {int(i.path.partition(":")[2]): i.split for i in scan(DataSettings(source=str(doubled))).items}
    assert all(by_row[row] == by_row[row + 60] for row in range(60))


def test_a_vector_of_an_earlier_stage_stays_in_its_split(tmp_path):
    task = load_task(write_npz(tmp_path / "a.npz"))
    before = {i.sha256: i.split for i in scan(DataSettings(source=str(tmp_path / "a.npz"))).items}
    features, labels = (np.concatenate(pair) for pair in zip(vectors(60, seed=1), vectors(90), strict=True))
    more = write_npz(tmp_path / "b.npz", features=features, labels=np.array(CLASSES)[labels])
    listing = scan(DataSettings(source=str(more)), history=History(task.records))
    assert {i.sha256: i.split for i in listing.items if i.sha256 in before} == before


def test_the_digest_is_of_numbers_labels_and_splits(tmp_path):
    features = vectors(90)[0]
    digest = load_task(write_npz(tmp_path / "a.npz")).digest
    assert load_task(write_npz(tmp_path / "a.npz", features=features.astype(np.float64))).digest == digest
    assert load_task(tmp_path / "a.npz", split_seed=1).digest != digest
    features[0, 0] += 1
    assert load_task(write_npz(tmp_path / "a.npz", features=features)).digest != digest


def test_several_labels_and_values(tmp_path):
    flags = np.random.default_rng(0).integers(0, 2, (90, 2))
    flags[0, 1] = -1
    file = write_npz(tmp_path / "m.npz", labels=flags, classes=np.array(["wet", "cold"]))
    task = load_task(file, labels="multi")
    assert task.output == MultiLabel(classes=("wet", "cold"))
    known = dict(zip((n for s in (task.train, task.val, task.test) for n in s.names),
                     np.concatenate([s.labels for s in (task.train, task.val, task.test)]), strict=True))  # fmt: skip
    assert known["m.npz:0"][1] == 255
    assert all(known[f"m.npz:{row}"].tolist() == flags[row].tolist() for row in range(1, 90))
    values = np.random.default_rng(0).normal(size=(90, 1))
    task = load_task(write_npz(tmp_path / "v.npz", labels=values[:, 0]), labels="value")
    assert isinstance(task.output, Regression)
    places = [int(name.partition(":")[2]) for name in task.test.names]
    np.testing.assert_array_equal(task.test.labels, values[places].astype(np.float32))


def test_labels_may_be_numbers_of_classes(tmp_path):
    labels = vectors(90)[1]
    named = load_task(write_npz(tmp_path / "a.npz", labels=labels, classes=np.array(["z", "y", "x"])))
    assert named.classes == ("x", "y", "z")
    assert load_task(write_npz(tmp_path / "b.npz", labels=labels)).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("arrays", "options", "code", "problem"),
    [
        ({"features": None}, {}, "E361", "no array 'features'"),
        ({"labels": None}, {}, "E361", "no array 'labels'"),
        ({"features": np.zeros(5)}, {}, "E361", "not (N, D)"),
        ({"features": np.array(["a"] * 90)}, {}, "E361", "no numbers"),
        ({"labels": np.zeros(5, int)}, {}, "E361", "90 features and 5 labels"),
        ({"labels": np.zeros(90)}, {}, "E361", "set `data.labels`"),
        ({"labels": np.full(90, 7), "classes": np.array(["a", "b"])}, {}, "E342", "go from 7 to 7"),
        ({"labels": np.full(90, -2)}, {}, "E342", "from -2"),
        ({"labels": np.array(["a"] * 90)}, {}, "E312", "found only 'a'"),
        ({"labels": np.full((90, 2), 3)}, {"labels": "multi"}, "E342", "neither 1 nor 0"),
        ({"labels": np.full((90, 2), np.inf)}, {"labels": "value"}, "E342", "no finite number"),
        ({"labels": np.array(["a"] * 90)}, {"labels": "value"}, "E361", "1 names of columns"),
        ({"classes": np.array(["a", "a"])}, {}, "E361", "equal names"),
        ({"splits": np.array(["train"] * 9)}, {}, "E361", "9 splits"),
        ({"splits": np.array(["mine"] * 90)}, {}, "E334", "unknown splits 'mine'"),
    ],
)  # fmt: skip
def test_files_that_hold_something_else_are_refused(tmp_path, arrays, options, code, problem):
    with pytest.raises(DataError) as caught:
        load_task(write_npz(tmp_path / "a.npz", **arrays), **options)
    assert caught.value.code == code
    assert problem in f"{caught.value.problem} {caught.value.hint}"


def test_rows_with_nan_or_without_a_label_are_left_out_if_asked_for(tmp_path):
    features, labels = vectors(90)
    features[3, 1], features[4, 0] = np.nan, np.inf
    names = np.array(CLASSES)[labels]
    names[5] = ""
    file = write_npz(tmp_path / "a.npz", features=features, labels=names)
    with pytest.raises(DataError, match=r"2 problems: a.npz:3: NaN or infinity") as caught:
        load_task(file)
    assert caught.value.code == "E363"
    task = load_task(file, skip_bad=True)
    assert not {"a.npz:3", "a.npz:4", "a.npz:5"} & {n for s in (task.train, task.val, task.test) for n in s.names}
    assert any("E363 rows left out: 2" in note for note in task.notes)


def test_a_target_is_standardised_by_the_source_and_serves_without_labels(tmp_path):
    write_npz(tmp_path / "a.npz")
    other = write_npz(tmp_path / "b.npz", seed=1, shift=2.0)
    task = load_task(tmp_path / "a.npz", target=str(other))
    assert task.target.input == task.input
    assert (task.unlabelled.labels == -1).all()
    assert task.unlabelled.rows is task.target.train.rows


def test_vectors_without_labels_come_from_a_file_or_are_the_remaining_ones(tmp_path):
    features = vectors(90)[0]
    file = write_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "u.npz", features=np.concatenate([features[:20], vectors(30, seed=2)[0]]))
    task = load_task(file, unlabelled=str(tmp_path / "u.npz"))
    assert [len(task.unlabelled), task.unlabelled.names[0]] == [30, "u.npz:20"]
    assert len(load_task(file, unlabelled="rest", max_per_class=5).unlabelled) == 72 - 15
    np.savez(tmp_path / "w.npz", features=np.zeros((3, 2)))
    with pytest.raises(DataError, match="vectors of 2 numbers"):
        load_task(file, unlabelled=str(tmp_path / "w.npz"))


def test_equal_vectors_in_two_splits_of_the_source_are_an_error(tmp_path):
    features, _ = vectors(90)
    features[80] = features[0]
    splits = np.array(["train"] * 60 + ["val"] * 15 + ["test"] * 15)
    file = write_npz(tmp_path / "a.npz", features=features, splits=splits)
    with pytest.raises(DataError, match=r"a.npz:80: same vector as a.npz:0") as caught:
        load_task(file)
    assert caught.value.code == "E320"


def test_another_width_or_kind_of_network_is_refused(tmp_path):
    file = write_npz(tmp_path / "a.npz")
    with pytest.raises(SettingsError, match="takes vectors of 5 numbers, a holds vectors of 6"):
        load_task(file, Vectors(size=5))
    with pytest.raises(SettingsError, match=r"takes images, and .* holds vectors"):
        load_task(file, Preprocess(size=8))
    with pytest.raises(SettingsError, match=r"takes vectors, and .* holds texts"):
        load_task(write_lines(tmp_path / "t.txt", texts(20)))


@pytest.mark.parametrize("option", [{"text_column": "x"}, {"workers": 2}, {"label_column": "x"}, {"root": "x"}])
def test_settings_of_others_are_refused(tmp_path, option):
    with pytest.raises(SettingsError, match=rf"leave out {next(iter(option))}|root is the folder of a table"):
        load_task(write_npz(tmp_path / "a.npz"), **option)
