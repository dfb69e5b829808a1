import numpy as np
import pytest
import torch

from effxfer.net.heads.build import build_head
from effxfer.net.heads.pools import pool_of
from effxfer.net.heads.spec import HeadSpec
from effxfer.search import inputs as given_module
from effxfer.search.head_training import Training, head_outputs, score_head, train_head
from effxfer.search.inputs import CACHE_BYTES
from effxfer.search.space import Candidate, SearchSettings
from effxfer.search.study import search_head
from tests.search.tasks import features_of

POOLS = [
    {"pool": "gem"},
    {"pool": "gem", "learn_power": False, "power": 2.0, "join": "gate", "mix": 5},
    {"pool": "attention", "queries": 2},
    {"pool": "attention", "join": "gate", "mix": 5},
    {"pool": "bilinear", "rank": 3},
    {"pool": "mean", "join": "gate", "mix": 5},
]


def data(folder=None, n=90, m=60):
    """Maps and tokens of unequal scale whose means tell the class; on the disk if there is a folder."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, n + m).astype(np.int64)
    maps = rng.normal(0, 1, (n + m, 6, 4, 4)) * rng.uniform(0.1, 20, (1, 6, 1, 1)) + rng.normal(0, 3, (1, 6, 1, 1))
    tokens = rng.normal(0, 1, (n + m, 5, 4))
    tokens[..., :3] += 2 * np.eye(3)[y][:, None]
    whole = {"early": maps.astype(np.float16), "out": tokens.astype(np.float16)}
    means = {"early": maps.mean((2, 3)).astype(np.float32), "out": tokens.mean(1).astype(np.float32)}
    if folder:
        for name, array in whole.items():
            np.save(folder / f"{name}.npy", array)
            whole[name] = np.load(folder / f"{name}.npy", mmap_mode="r")
        for name, array in means.items():
            np.save(folder / f"mean-{name}.npy", array)
            means[name] = np.load(folder / f"mean-{name}.npy", mmap_mode="r")
    halves = {name: (a[:n], a[n:]) for name, a in means.items()}
    return features_of((halves, (y[:n], y[n:])), 3, {name: (a[:n], a[n:]) for name, a in whole.items()})


@pytest.mark.parametrize("kind", ["linear", "cosine", "mlp"])
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: "-".join(str(v) for v in pool.values()))
def test_a_trained_head_answers_the_same_on_layers_as_they_are(pool, kind, standardize):
    found = data()
    spec = HeadSpec(kind=kind, standardize=standardize, **pool)
    chosen = Candidate(spec=spec, taps=("early", "out"), lr=0.02, weight_decay=1e-3)
    training = Training(found, chosen, SearchSettings(epochs=15, batch=16), rows=None, seed=1)
    training.advance(15)
    score = training.score("val", None, "accuracy")
    after = score_head(found, chosen.taps, *training.result(), "accuracy")
    assert score > 0.8 or pool["pool"] == "gem"  # which does not see what is below 0
    assert after == pytest.approx(score, abs=0.02)


def test_averages_mapped_from_the_disk_are_mixed(tmp_path):
    chosen = Candidate(spec=HeadSpec(join="gate", mix=3), taps=("early", "out"), lr=0.02, weight_decay=1e-3)
    found = data(tmp_path)
    result = train_head(found, chosen, SearchSettings(epochs=3, batch=16), seed=1)
    assert head_outputs(found, chosen.taps, *result).shape == (60, 3)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_layers_read_from_the_disk_train_as_those_in_memory(monkeypatch, tmp_path, optimizer):
    spec = HeadSpec(pool="attention", standardize=True)
    chosen = Candidate(spec=spec, taps=("early", "out"), lr=0.02, weight_decay=1e-3, optimizer=optimizer)
    states = []
    for most in (CACHE_BYTES, 0):
        monkeypatch.setattr(given_module, "CACHE_BYTES", most)
        training = Training(data(tmp_path), chosen, SearchSettings(epochs=3, batch=16), rows=np.arange(70), seed=1)
        training.advance(3)
        states.append(training.result()[1])
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_workers_search_pools_on_mapped_layers_as_one_process_does(tmp_path):
    found = data()
    settings = SearchSettings(trials=5, epochs=4, folds=1, finalists=1, workers=2, pruner="none")
    several = search_head(found, settings=settings, storage_dir=tmp_path / "two", seed=0)
    one = search_head(found, settings=settings.model_copy(update={"workers": 1}), storage_dir=tmp_path / "one", seed=0)
    heads = [{row["head"] for row in result.report.tables[0].rows} for result in (several, one)]
    assert heads[0] == heads[1]
    assert any("bilinear" in head for head in heads[0])
    head = build_head(one.spec, found.channels(one.taps, one.spec), 3)
    head.load_state_dict(one.state)
    assert one.spec.pools == (pool_of(head) is not None)
