import numpy as np
import pytest

from effxfer.data.load import load, scan
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError, SettingsError
from effxfer.runtime.vectors.vectors import Vectors
from effxfer.settings import build
from tests.tiny_vectors import WIDTH, write_npz

ROWS = "ant,1,0,5\nbee,0,1,5\ncat,1,1,5\ndog,0,0,5\n"


@pytest.fixture
def place(tmp_path):
    write_npz(tmp_path / "known.npz")
    features = np.random.default_rng(1).normal(size=(20, WIDTH))
    np.savez(tmp_path / "new.npz", features=features, labels=np.array(["dog", "elk"] * 10))
    return tmp_path


def settings(place, text, **more):
    (place / "classes.csv").write_text(text)
    return DataSettings(source="known.npz", class_embeddings="classes.csv", **more)


def test_rows_come_in_the_order_of_classes(place):
    task = load(settings(place, "more,9,9,9\ncat,1,1,5\nant,1,0,4\nbee,0,1,5\n"), Vectors(size=WIDTH), base=place)
    assert task.classes == ("ant", "bee", "cat")
    assert task.class_embeddings.tolist() == [[1, 0, 4], [0, 1, 5], [1, 1, 5]]
    assert task.with_input(task.input).class_embeddings is task.class_embeddings


def test_new_classes_need_a_row_too(place):
    given = settings(place, ROWS, target=DataSettings(source="new.npz"))
    with pytest.raises(DataError, match=r"classes\.csv: no row for 'elk'") as raised:
        scan(given, place)
    assert raised.value.code == "E371"
    task = load(settings(place, f"{ROWS}elk,2,2,5\n", target=given.target), Vectors(size=WIDTH), base=place)
    assert task.target.class_embeddings.tolist() == [[0, 0, 5], [2, 2, 5]]


def test_they_are_part_of_the_key(place):
    plain = scan(DataSettings(source="known.npz"), place).key
    first, again = (scan(settings(place, ROWS), place).key for _ in range(2))
    assert first == again != plain
    assert scan(settings(place, ROWS.replace("cat,1", "cat,2")), place).key != first
    assert scan(settings(place, f"{ROWS}emu,7,7,7\n"), place).key == first, "rows of no class do not count"


def test_word_vectors_are_looked_up(place):
    (place / "glove.txt").write_text("ant 1 0\nbee 0 1\ncat 1 1\n")
    task = load(DataSettings(source="known.npz", class_embeddings="glove.txt"), Vectors(size=WIDTH), base=place)
    assert task.class_embeddings.tolist() == [[1, 0], [0, 1], [1, 1]]
    (place / "glove.txt").write_text("ant 1 0\ncat 1 1\n")
    with pytest.raises(DataError, match=r"glove\.txt has no vector of 'bee'"):
        scan(DataSettings(source="known.npz", class_embeddings="glove.txt"), place)


def test_columns_and_rows_that_tell_nothing_are_noted(place):
    notes = " ".join(scan(settings(place, ROWS.replace("cat,1,1", "cat,0,1")), place).notes)
    assert "W370 1 of 3 columns of class_embeddings are the same for all known classes: 2" in notes
    assert "W371 equal rows of class_embeddings" in notes
    assert "'bee', 'cat'" in notes
    with pytest.raises(DataError, match="all classes with examples have the same"):
        scan(settings(place, "ant,1\nbee,1\ncat,1\ndog,2\n"), place)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"labels": "multi"}, "class_embeddings needs labels = 'single'"),
        ({"target": {"source": "new.npz", "class_embeddings": "c.csv"}}, "a target has no class_embeddings"),
    ],
)
def test_settings_that_do_not_fit_are_refused(more, words):
    with pytest.raises(SettingsError, match=words):
        build(DataSettings, {"source": "known.npz", "class_embeddings": "c.csv", **more}, "data")
