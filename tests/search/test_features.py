from dataclasses import replace

import numpy as np
import pytest

from effxfer.errors import DataError
from effxfer.search.features import Features
from tests.search.tasks import blobs, corners, slopes
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
        Features(**(arguments | change), output=data.output)


@pytest.mark.parametrize("make", [corners, slopes])
def test_labels_need_a_number_for_each_column(make):
    data = features(make, None)
    with pytest.raises(DataError, match="columns"):
        replace(data, labels=data.labels[:, :1])
    with pytest.raises(DataError, match="columns"):
        replace(data, val_labels=data.val_labels[:, 0])


@pytest.mark.parametrize(("make", "classes"), [(blobs, 3), (corners, None), (slopes, None)])
def test_the_digest_sees_every_number(make, classes):
    data, changed, others = (features(make, classes) for _ in range(3))
    changed.val["early"][3, 2] += 1
    others.labels[1] = others.labels[0]
    assert data.digest() == features(make, classes).digest() != changed.digest()
    assert data.digest() != others.digest()
    assert data.shape() == changed.shape() != others.shape()


def test_the_digest_sees_how_values_are_standardised():
    data = features(slopes, None)
    other = replace(data, output=replace(data.output, deviation=(1.0, 1.0)))
    assert data.digest() != other.digest()
    assert data.shape() != other.shape()
