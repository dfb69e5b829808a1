import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score

from effxfer.net.heads.build import build_head
from effxfer.net.heads.spec import HeadSpec
from effxfer.search.features import Features
from effxfer.search.head_training import (
    DivergedError,
    Training,
    fold_rows,
    judge,
    measure,
    rungs,
    score_head,
    size_penalty,
    train_head,
)
from effxfer.search.space import Candidate, SearchSettings
from tests.search.tasks import blobs, features_of, table

LINEAR = HeadSpec(kind="linear")


def features(make=blobs, classes=3, **arguments):
    return features_of(table(make, n=200, n_val=100, **arguments), classes)


def candidate(spec=LINEAR, taps=("out",), lr=0.02, weight_decay=1e-3):
    return Candidate(spec=spec, taps=taps, lr=lr, weight_decay=weight_decay)


@given(
    labels=st.lists(st.integers(0, 4), min_size=6, max_size=120),
    folds=st.integers(0, 6),
    seed=st.integers(0, 99),
)
@profile(max_examples=80, deadline=None)
def test_folds_are_disjoint_stratified_and_repeat(labels, folds, seed):
    y = np.array(labels, dtype=np.int64)
    found = fold_rows(y, folds, seed)
    again = fold_rows(y, folds, seed)
    seen = np.zeros(len(y), int)
    for (train, judged), (train2, judged2) in zip(found, again, strict=True):
        assert np.array_equal(train, train2)
        assert np.array_equal(judged, judged2)
        assert not set(train) & set(judged)
        assert len(train) + len(judged) == len(y)
        seen[judged] += 1
        parts = {0: 5, 1: 5}.get(folds, folds)
        for c in np.unique(y):
            share = (y[judged] == c).sum()
            assert abs(share - (y == c).sum() / parts) < 1 + 1e-9 or (y == c).sum() == 1
    assert seen.max() <= 1
    lonely = np.bincount(y)[y] == 1
    assert not seen[lonely].any()


def test_fold_count_follows_the_size():
    assert [len(fold_rows(np.arange(n) % 2, 0, 0)) for n in (100, 1000, 5000)] == [5, 3, 1]
    ((train, judged),) = fold_rows(np.arange(100) % 2, 1, 0)
    assert (len(train), len(judged)) == (80, 20)


@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
@profile(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore::UserWarning:sklearn.*")
def test_metrics_equal_scikit_learn(pairs):
    predicted, labels = (torch.tensor(v) for v in zip(*pairs, strict=True))
    assert measure(predicted, labels, "accuracy") == pytest.approx(float((predicted == labels).double().mean()))
    assert measure(predicted, labels, "balanced_accuracy") == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert measure(predicted, labels, "macro_f1") == pytest.approx(f1_score(labels, predicted, average="macro"))


@pytest.mark.parametrize("kind", ["linear", "cosine", "mlp"])
@pytest.mark.parametrize("standardize", [True, False])
def test_training_learns_repeats_and_its_result_scores_as_it_did(kind, standardize):
    data, settings = features(), SearchSettings(epochs=12, batch=32)
    chosen = candidate(HeadSpec(kind=kind, standardize=standardize, dropout=0.2), taps=("early", "out"))
    spec, state = train_head(data, chosen, settings, seed=3)
    spec2, again = train_head(data, chosen, settings, seed=3)
    assert spec == spec2
    assert all(torch.equal(state[k], again[k]) for k in state)
    assert any(not torch.equal(state[k], v) for k, v in train_head(data, chosen, settings, seed=4)[1].items())
    score = score_head(data, chosen.taps, spec, state, "accuracy")
    assert score > 0.85
    training = Training(data, chosen, settings, rows=None, seed=3)
    training.advance(12)
    assert training.score("val", None, "accuracy") == pytest.approx(score, abs=0.011)
    assert build_head(spec, 11, 3).state_dict().keys() == state.keys()


def test_training_does_not_disturb_the_global_generators():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train_head(features(), candidate(HeadSpec(kind="mlp", dropout=0.5)), SearchSettings(epochs=2), seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_in_pieces_equals_training_at_once():
    data, settings = features(), SearchSettings(epochs=9, batch=32)
    chosen = candidate(HeadSpec(kind="mlp", width=8, dropout=0.3, norm="batch"))
    pieces, whole = (Training(data, chosen, settings, rows=None, seed=1) for _ in range(2))
    for epoch in (1, 3, 9):
        pieces.advance(epoch)
    whole.advance(9)
    assert all(torch.equal(a, b) for a, b in zip(pieces.result()[1].values(), whole.result()[1].values(), strict=True))


def test_judging_reports_every_rung_and_never_touches_val():
    data = features()
    blind = Features(
        train=data.train,
        val={k: np.zeros_like(v) for k, v in data.val.items()},
        labels=data.labels,
        val_labels=np.zeros_like(data.val_labels),
        classes=3,
    )
    settings, told = SearchSettings(epochs=18, batch=32), []
    folds = fold_rows(data.labels, 3, 0)
    values = [
        judge(d, candidate(), settings, folds=folds, penalty=0.0, seed=0, report=lambda e, v: told.append((e, v)))
        for d in (data, blind)
    ]
    assert values[0] == values[1] > 0.9
    assert [e for e, _ in told[:3]] == rungs(18) == [2, 6, 18]
    assert told[2][1] == values[0]


def test_size_costs_what_the_setting_says():
    data, settings = features(), SearchSettings(size_penalty=0.01)
    linear = size_penalty(data, candidate(), settings, reference=21)
    assert linear == 0
    wide = candidate(HeadSpec(kind="mlp", width=21))
    assert size_penalty(data, wide, settings, reference=(6 * 21 + 21) + (21 * 3 + 3)) == 0
    assert size_penalty(data, wide, settings, reference=2130) == pytest.approx(-0.01)
    assert size_penalty(data, wide, settings.model_copy(update={"size_penalty": 0.0}), reference=1) == 0


def test_divergence_is_noticed():
    data = features()
    huge = Features(
        train={"out": np.clip(data.train["out"], -1, 1) * np.float32(3e38)},
        val={"out": data.val["out"]},
        labels=data.labels,
        val_labels=data.val_labels,
        classes=3,
    )
    with pytest.raises(DivergedError, match="epoch"):
        train_head(huge, candidate(HeadSpec(kind="mlp"), lr=0.1), SearchSettings(epochs=3), seed=0)
