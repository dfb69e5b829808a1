import numpy as np
import pytest

from effxfer.errors import DataError
from effxfer.search.features import Features
from tests.search.test_head_training import features


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"labels": np.full(200, 3)}, "not within 0 to 2"),
        ({"labels": np.zeros(150, np.int64)}, "150 labels"),
        ({"train": {"out": np.full((200, 6), np.nan, np.float32)}}, "NaN"),
        ({"train": {}}, "no train features"),
    ],
)
def test_features_that_do_not_fit_are_refused(change, word):
    data = features()
    arguments = {"train": data.train, "val": data.val, "labels": data.labels, "val_labels": data.val_labels}
    with pytest.raises(DataError, match=word):
        Features(**(arguments | change), classes=3)


def test_the_digest_sees_every_number():
    data = features()
    changed = features()
    changed.val["early"][3, 2] += 1
    assert data.digest() == features().digest() != changed.digest()
