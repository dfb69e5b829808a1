"""Each kind of head against the plain linear one, on a task made for what it claims."""

import numpy as np
import pytest

from effxfer.net.heads.spec import HeadSpec
from effxfer.search.head_training import score_head, train_head
from effxfer.search.space import Candidate, SearchSettings
from tests.search.tasks import features_of

N, M, SIDE = 240, 240, 6
LINEAR = HeadSpec(standardize=True)


def small_object(rng, n):
    """The class is in what lies at one position, which a channel marks; all other positions are clutter."""
    y = rng.integers(0, 2, n)
    x = rng.normal(0, 1.5, (n, 8, SIDE, SIDE))
    at = rng.integers(0, SIDE, (2, n))
    x[:, 0] = rng.normal(0, 0.3, (n, SIDE, SIDE))
    x[np.arange(n), 0, at[0], at[1]] = 5
    x[np.arange(n), 1, at[0], at[1]] = 3 * (2 * y - 1)
    return {"out": x}, y


def second_moments(rng, n):
    """The class is in whether two channels go together or apart; their means say nothing."""
    y = rng.integers(0, 2, n)
    x = rng.normal(0, 1, (n, 8, SIDE, SIDE))
    x[:, 1] = 0.8 * x[:, 0] * (2 * y - 1)[:, None, None] + 0.6 * x[:, 1]
    return {"out": x - x.mean((2, 3), keepdims=True)}, y


def peaks(rng, n):
    """Of two maps of equal mean, one is even and the other one has peaks; which one, is the class."""
    y = rng.integers(0, 2, n)
    x = np.abs(rng.normal(1, 0.05, (n, 2, SIDE, SIDE)))
    for k in range(n):
        x[k, y[k]] = 0.25
        x[k, y[k]].flat[rng.permutation(SIDE * SIDE)[:3]] = 9.25
    return {"out": x * rng.uniform(0.7, 1.3, (n, 2, 1, 1))}, y


def unreliable_layers(rng, n):
    """One of two layers tells the class, the other one misleads; a feature says which is which."""
    y = rng.integers(0, 2, n)
    good = rng.integers(0, 2, n)
    layers = [rng.normal(0, 0.3, (n, 5)) for _ in range(2)]
    for k, layer in enumerate(layers):
        right = np.where(good == k, y, rng.integers(0, 2, n))
        layer[:, 0] += 2 * right - 1
        layer[:, 1] += 4.0 * (good == k)
    return {"early": layers[0], "out": layers[1]}, y


def accuracy(make, spec, *, maps, taps=("out",), epochs=40):
    """On the validation split, of a head trained on the training split."""
    x, y = make(np.random.default_rng(0), N + M)
    halves = {name: (a[:N].astype(np.float32), a[N:].astype(np.float32)) for name, a in x.items()}
    flat = {n: tuple(a.mean((2, 3)) if maps else a for a in two) for n, two in halves.items()}
    labels = (y[:N].astype(np.int64), y[N:].astype(np.int64))
    data = features_of((flat, labels), 2, halves if maps else None)
    chosen = Candidate(spec=spec, taps=taps, lr=0.02, weight_decay=1e-3)
    found, state = train_head(data, chosen, SearchSettings(epochs=epochs, batch=32), seed=1)
    return 100 * score_head(data, taps, found, state, "accuracy")


@pytest.mark.parametrize(
    ("make", "spec"),
    [
        (small_object, HeadSpec(pool="attention", standardize=True, grid=7)),
        (second_moments, HeadSpec(pool="bilinear", rank=8, standardize=True, grid=7)),
        (peaks, HeadSpec(pool="gem", standardize=True, grid=7)),
    ],
    ids=["attention", "bilinear", "gem"],
)
def test_a_pool_finds_what_the_mean_loses(make, spec):
    plain, pooled = (accuracy(make, one, maps=True) for one in (LINEAR, spec))
    assert plain < 75
    assert pooled > 90


def test_a_gate_believes_the_layer_that_is_right():
    plain = accuracy(unreliable_layers, LINEAR, maps=False, taps=("early", "out"))
    gated = accuracy(
        unreliable_layers, HeadSpec(join="gate", mix=16, standardize=True), maps=False, taps=("early", "out")
    )
    assert gated > plain + 5
    assert gated > 90


def test_a_bottleneck_is_smaller_and_still_separates_what_a_line_does_not():
    from tests.search.tasks import xor

    def tile(rng, n):
        x, y = xor(n=n, noise=60)
        return {"out": x}, y

    full, narrow = (HeadSpec(kind="mlp", width=64, bottleneck=rank, standardize=False) for rank in (0, 4))
    found = [accuracy(tile, spec, maps=False, epochs=120) for spec in (LINEAR, narrow)]
    assert found[1] > found[0] + 15
    assert HeadSpec.model_validate(narrow.model_dump()) != full
