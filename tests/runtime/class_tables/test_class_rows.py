import numpy as np
import pytest

from effxfer.runtime.class_tables.class_rows import ClassRows, embedding_rows, prototype_rows
from effxfer.runtime.model_file.metadata import ModelError

OUTPUTS = np.float32([[1, 2, 3]])


def test_the_own_rows_of_a_file_lower_nothing():
    assert ClassRows().tables == {}
    assert ClassRows().lower(OUTPUTS, probabilities=False) is OUTPUTS


def test_classes_that_were_trained_are_lowered_and_new_ones_are_not():
    rows = embedding_rows(np.ones((3, 2)), ["new", "old", "newer"], 2, trained={"old", "older"}, calibration=0.5)
    assert rows.lower(OUTPUTS, probabilities=False).tolist() == [[1, 1.5, 3]]
    assert {name: table.dtype for name, table in rows.tables.items()} == {"class_embeddings": np.float32}


@pytest.mark.parametrize("shape", [(2, 2), (3, 1), (0, 2)])
def test_rows_of_another_shape_are_refused(shape):
    labels = ["a", "b", "c"] if shape[0] else []
    with pytest.raises(ModelError, match="need prototypes of shape"):
        prototype_rows(np.zeros(shape, np.float32), labels, 2)
    with pytest.raises(ModelError, match="need a table of shape"):
        embedding_rows(np.zeros(shape, np.float32), labels, 2, trained=(), calibration=0.0)
