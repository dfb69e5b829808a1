import numpy as np
import pytest

from effxfer.data.word_vectors import embed_names
from effxfer.runtime.class_tables.class_table_error import ClassTableError

TEXT = "the 1 0\npolar 0 2\nbear 4 0\nGiraffe 1 1\nbear 9 9\n"


@pytest.fixture
def glove(tmp_path):
    (tmp_path / "glove.txt").write_text(TEXT)
    return tmp_path / "glove.txt"


@pytest.mark.parametrize("name", ["polar bear", "polar_bear", "polar-bear", "polar+bear", "Polar Bear"])
def test_a_name_of_several_words_has_their_mean(glove, name):
    assert embed_names([name, "the"], glove).values.tolist() == [[2, 1], [1, 0]]


def test_a_word_is_looked_up_as_it_is_first(glove):
    assert embed_names(["Giraffe"], glove).values.tolist() == [[1, 1]]
    with pytest.raises(ClassTableError, match="no vector of 'giraffe'"):
        embed_names(["giraffe", "bear"], glove)


def test_the_first_line_of_word2vec_is_no_word(tmp_path):
    (tmp_path / "w2v.txt").write_text(f"5 2\n{TEXT}")
    assert embed_names(["bear"], tmp_path / "w2v.txt").values.tolist() == [[4, 0]]


def test_arrays_are_read_too(tmp_path):
    np.savez(tmp_path / "v.npz", words=np.array(["bear", "polar", "bear"]), vectors=np.eye(3))
    assert embed_names(["bear"], tmp_path / "v.npz").values.tolist() == [[1, 0, 0]]
    for arrays in ({"words": np.array(["bear"])}, {"words": np.array(["bear"]), "vectors": np.ones((2, 3))}):
        np.savez(tmp_path / "v.npz", **arrays)
        with pytest.raises(ClassTableError, match=r"v\.npz has"):
            embed_names(["bear"], tmp_path / "v.npz")
    np.savez(tmp_path / "v.npz", words=np.array(["bear"]), vectors=np.array([[1, np.nan]]))
    with pytest.raises(ClassTableError, match="NaN or infinity for 'bear'"):
        embed_names(["bear"], tmp_path / "v.npz")


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "E371", "no vector of 'bear', 'polar'"),
        ("polar 1 2\nbear 1\n", "E373", "line 2 of .* is no word with 2 finite numbers"),
        ("polar 1 2\nbear 1 x\n", "E373", "line 2"),
        ("polar 1 2\nbear 1 inf\n", "E373", "line 2"),
    ],
)
def test_lines_that_are_none_are_named(tmp_path, text, code, words):
    (tmp_path / "g.txt").write_text(text)
    with pytest.raises(ClassTableError, match=words) as raised:
        embed_names(["polar bear"], tmp_path / "g.txt")
    assert raised.value.code == code


def test_a_name_without_a_word_is_refused(glove):
    with pytest.raises(ClassTableError, match="'---' holds no word"):
        embed_names(["---"], glove)
