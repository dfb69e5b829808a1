from dataclasses import replace

import numpy as np
import pytest
import torch

from effxfer.errors import DataError
from effxfer.net.heads.build import build_head
from effxfer.net.heads.spec import HeadSpec
from effxfer.search.features import Features
from effxfer.search.head_training import (
    DivergedError,
    Training,
    judge,
    rungs,
    score_head,
    size_penalty,
    train_head,
)
from effxfer.search.judging.folds import fold_rows
from effxfer.search.space import Candidate, SearchSettings
from tests.search.tasks import blobs, corners, features_of, slopes, table

LINEAR = HeadSpec(kind="linear")


def features(make=blobs, classes=3, **arguments):
    return features_of(table(make, n=200, n_val=100, **arguments), classes)


def candidate(spec=LINEAR, taps=("out",), lr=0.02, weight_decay=1e-3):
    return Candidate(spec=spec, taps=taps, lr=lr, weight_decay=weight_decay)


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


@pytest.mark.parametrize("make", [corners, slopes])
@pytest.mark.parametrize("spec", [LINEAR, HeadSpec(kind="mlp", width=16, standardize=True)])
def test_training_learns_several_labels_and_values(make, spec):
    data, settings = features(make, None), SearchSettings(epochs=40, batch=32)
    spec, state = train_head(data, candidate(spec), settings, seed=3)
    score = score_head(data, ("out",), spec, state, None)
    assert score > 0.85
    blind = replace(data, val={name: np.zeros_like(matrix) for name, matrix in data.val.items()})
    assert score_head(blind, ("out",), spec, state, None) < 0.7, "it is the features that tell"


def test_labels_that_are_unknown_teach_nothing():
    data, settings = features(corners, None), SearchSettings(epochs=2, batch=32)
    some = data.labels.copy()
    some[:, 2] = 255
    states = [train_head(replace(data, labels=y), candidate(), settings, seed=3)[1] for y in (data.labels, some)]
    # Other labels of the other two: examples without any would be left out.
    blank = np.zeros_like(some)
    blank[:, 2] = 255
    fresh = train_head(replace(data, labels=blank), candidate(), settings, seed=3)[1]
    assert not torch.equal(states[0]["out.weight"][2], fresh["out.weight"][2])
    assert torch.equal(states[1]["out.weight"][2], fresh["out.weight"][2])


def test_examples_without_a_label_are_left_out_as_if_they_were_not_there():
    data, settings = features(), SearchSettings(epochs=2, batch=32)
    labels = data.labels.copy()
    labels[::3] = -1
    rows = np.flatnonzero(labels >= 0)
    fewer = replace(data, train={name: x[rows] for name, x in data.train.items()}, labels=data.labels[rows])
    ours, theirs = (train_head(d, candidate(), settings, seed=3)[1] for d in (replace(data, labels=labels), fewer))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(DataError, match="no train example has a label"):
        replace(data, labels=np.full_like(labels, -1))


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
        output=data.output,
    )
    settings, told = SearchSettings(epochs=18, batch=32), []
    folds = fold_rows(data.labels, data.output, 3, 0)
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
        output=data.output,
    )
    with pytest.raises(DivergedError, match="epoch"):
        train_head(huge, candidate(HeadSpec(kind="mlp"), lr=0.1), SearchSettings(epochs=3), seed=0)
