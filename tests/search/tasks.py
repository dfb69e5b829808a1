"""Tiny made-up feature tables."""

import numpy as np

from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.outputs.single_label import SingleLabel
from effxfer.search.features import Features


def xor(n=400, noise=4, seed=0):
    """Two classes that no linear head separates: the sign of a product of two features."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, 2 + noise)).astype(np.float32)
    x[:, 2:] *= 0.3
    return x, (x[:, 0] * x[:, 1] > 0).astype(np.int64)


def blobs(n=300, classes=3, dim=6, spread=0.6, seed=0):
    """Classes around corners: a linear head separates them almost fully."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    return (np.eye(classes, dim)[y] * 2 + rng.normal(0, spread, (n, dim))).astype(np.float32), y.astype(np.int64)


def corners(n=300, dim=6, spread=0.4, seed=0):
    """Three labels of which any number applies, each with a corner of its own; every 50th is unknown."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (n, 3)).astype(np.uint8)
    x = (y @ np.eye(3, dim) * 2 + rng.normal(0, spread, (n, dim))).astype(np.float32)
    y.reshape(-1)[::50] = 255
    return x, y


def slopes(n=300, dim=6, noise=0.2, seed=0):
    """Two values that are linear in the features, in other units; every 50th is unknown."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim)).astype(np.float32)
    y = (x @ rng.normal(size=(dim, 2)) + rng.normal(0, noise, (n, 2))) * (1, 100) + (5, -300)
    y.reshape(-1)[::50] = np.nan
    return x, y.astype(np.float32)


def single(classes):
    """The output of so many classes."""
    return SingleLabel(classes=tuple(f"class {k}" for k in range(classes)))


def outputs(y):
    """The output of labels of `corners` or `slopes`."""
    if y.dtype == np.uint8:
        return MultiLabel(classes=("a", "b", "c"))
    mean, deviation = (tuple(map(float, f(y, axis=0))) for f in (np.nanmean, np.nanstd))
    return Regression(classes=("size", "weight"), mean=mean, deviation=deviation)


def table(make, n=400, n_val=200, **arguments):
    """Give features of layers `early` (noise) and `out`, and labels, as `search_head` takes them."""
    x, y = make(n=n + n_val, **arguments)
    noise = np.random.default_rng(9).normal(size=(n + n_val, 5)).astype(np.float32)
    return {"early": (noise[:n], noise[n:]), "out": (x[:n], x[n:])}, (y[:n], y[n:])


def features_of(found, classes=None, maps=None):
    """Give what `search_head` takes: of `table`, and of layers as they are, `(train, val)` by name."""
    vectors, (labels, val_labels) = found
    maps = maps or {}
    return Features(
        train={name: two[0] for name, two in vectors.items()},
        val={name: two[1] for name, two in vectors.items()},
        labels=labels,
        val_labels=val_labels,
        output=single(classes) if classes else outputs(labels),
        train_maps={name: two[0] for name, two in maps.items()},
        val_maps={name: two[1] for name, two in maps.items()},
    )
