import numpy as np
import pytest

from effxfer.runtime.few_shot.enrolled_classes import EnrolledClasses, read_enrolled
from effxfer.runtime.images.preprocess import ImageError

TABLE = EnrolledClasses(("grün", "rot"), np.arange(6, dtype=np.float32).reshape(2, 3), (1, 5), "key")


def test_it_is_read_as_it_was_written(tmp_path):
    file = TABLE.save(tmp_path / "m.classes.npz")
    table = read_enrolled(file)
    assert (table.labels, table.shots, table.key) == (TABLE.labels, TABLE.shots, TABLE.key)
    assert np.array_equal(table.prototypes, TABLE.prototypes)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(
    "change", [{"labels": np.array(["a"])}, {"prototypes": np.zeros((2, 3))}, {"shots": np.array(["x", "y"])},
               {"prototypes": np.full((2, 3), np.nan, np.float32)}, {"key": None}]
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused(tmp_path, change):
    arrays = {"labels": np.array(TABLE.labels), "prototypes": TABLE.prototypes, "shots": np.array([1, 5]), "key": "k"}
    np.savez(tmp_path / "t.npz", **{key: value for key, value in {**arrays, **change}.items() if value is not None})
    with pytest.raises(ImageError, match=r"t\.npz holds no enrolled classes"):
        read_enrolled(tmp_path / "t.npz")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "t.npz").write_text("<html>")
    for file in ("t.npz", "absent.npz"):
        with pytest.raises(ImageError, match="holds no enrolled classes"):
            read_enrolled(tmp_path / file)
