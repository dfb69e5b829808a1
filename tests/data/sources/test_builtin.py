import subprocess
import sys

import numpy as np
import pytest

from effxfer.data.sources import builtin
from effxfer.errors import DataError, ResourceError


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    theirs = load_digits()
    np.testing.assert_array_equal(builtin.load_digits().labels, theirs.target)
    np.testing.assert_allclose(builtin.load_digits().images, theirs.images * 255 / 16, atol=0.5)


def test_listing_and_pixels_belong_together():
    items = builtin.read_builtin("digits").items
    assert len(items) == len({item.path for item in items}) == 1797
    np.testing.assert_array_equal(builtin.builtin_image(items[7].path), builtin.load_digits().images[7])
    assert items[7].label == str(builtin.load_digits().labels[7])


def test_scikit_learn_is_not_imported():
    code = "import sys; from effxfer.data.sources.builtin import load_digits as d; d(); print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_unknown_name():
    with pytest.raises(DataError, match="no data at 'mnist'"):
        builtin.read_builtin("mnist")


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setattr(builtin, "find_spec", lambda _: None)
    with pytest.raises(ResourceError, match="scikit-learn"):
        builtin.load_digits.__wrapped__()
