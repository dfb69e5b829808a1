import math
from dataclasses import replace
from typing import get_args

import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.train.settings import Validator
from effxfer.transfer.base import Strategy
from effxfer.transfer.domain_adaptation.validators.outputs import DomainOutputs
from effxfer.transfer.domain_adaptation.validators.registry import (
    VALIDATORS,
    domain_outputs,
    validate_on_target,
)
from tests.transfer.domains import moved_vectors, scrambled, vector_body
from tests.transfer.tasks import CPU, adapt, task


def outputs(target_logits, **changes) -> DomainOutputs:
    rng = torch.Generator().manual_seed(0)
    drawn = {name: torch.randn(60, 4, generator=rng) for name in ("source", "train", "target")}
    return DomainOutputs(
        source_logits=torch.randn(60, 3, generator=rng), source_labels=torch.arange(60) % 3,
        target_logits=target_logits,
        source_features=drawn["source"], train_features=drawn["train"], target_features=drawn["target"], **changes,
    )  # fmt: skip


SURE = 20.0 * torch.eye(3).repeat(20, 1)
UNSURE = 0.5 * torch.eye(3).repeat(20, 1)
COLLAPSED = torch.tensor([20.0, 0, 0]).repeat(60, 1)


def test_the_table_names_every_validator():
    assert list(VALIDATORS) == sorted(VALIDATORS)
    assert {*VALIDATORS, "source"} == set(get_args(Validator))
    assert Strategy().validator == "source"


@pytest.mark.parametrize("name", ["bnm", "entropy", "information"])
def test_sure_answers_are_better(name):
    assert VALIDATORS[name](outputs(SURE)) > VALIDATORS[name](outputs(UNSURE))


def test_a_collapsed_network_is_the_worst():
    given = {"sure": SURE, "unsure": UNSURE, "one": COLLAPSED}
    scores = {name: VALIDATORS["information"](outputs(logits)) for name, logits in given.items()}
    assert scores["one"] == min(scores.values())
    assert VALIDATORS["bnm"](outputs(COLLAPSED)) < VALIDATORS["bnm"](outputs(SURE))
    assert VALIDATORS["entropy"](outputs(COLLAPSED)) >= VALIDATORS["entropy"](outputs(SURE)) - 1e-6, "the known flaw"


def test_values_by_hand():
    assert VALIDATORS["information"](outputs(SURE)) == pytest.approx(math.log(3), abs=1e-4)
    assert VALIDATORS["entropy"](outputs(torch.zeros(60, 3))) == pytest.approx(-math.log(3), abs=1e-5)
    assert VALIDATORS["bnm"](outputs(SURE)) == pytest.approx(1, abs=1e-4)
    # Each example has 19 equal neighbours.
    assert VALIDATORS["snd"](outputs(SURE)) == pytest.approx(math.log(19), abs=1e-3)


def test_dev_prefers_a_network_that_is_right_where_the_target_is():
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(400, 2, generator=rng)
    labels, near = torch.arange(400) % 2, features[:, 0] > 0
    right = 4 * (torch.nn.functional.one_hot(labels, 2).float() - 0.5)
    base = replace(
        outputs(torch.zeros(400, 2)), source_features=features, source_labels=labels,
        train_features=torch.randn(400, 2, generator=rng),
        target_features=torch.randn(400, 2, generator=rng) + torch.tensor([1.5, 0.0]),
    )  # fmt: skip
    good_there, good_elsewhere = (
        replace(base, source_logits=torch.where(m[:, None], right, -right)) for m in (near, ~near)
    )
    assert VALIDATORS["dev"](good_there) > VALIDATORS["dev"](good_elsewhere) + 1


@pytest.mark.parametrize("name", sorted(VALIDATORS))
def test_labels_of_the_target_have_no_say(name):
    given = moved_vectors(200)
    net = vector_body()
    net.input = given.input
    net, *_ = adapt(Strategy(validator=name, batch=32), given, net=net, epochs=2, keep="best")
    assert validate_on_target(name, net, given, CPU) == validate_on_target(name, net, scrambled(given), CPU)
    assert math.isfinite(validate_on_target(name, net, given, CPU))


def test_the_validator_chooses_the_epoch():
    given = moved_vectors(200, shift=4.0)
    net = vector_body()
    net.input = given.input
    _, _, _, rows = adapt(Strategy(validator="information", batch=32), given, net=net, epochs=4, keep="best")
    best = max(rows, key=lambda row: row["score"])
    assert validate_on_target("information", net, given, CPU) == pytest.approx(best["score"], abs=1e-6)
    assert domain_outputs(net, given, CPU).target_logits.shape == (len(given.unlabelled), 4)


def test_without_a_target_there_is_nothing_to_look_at():
    given = task()
    with pytest.raises(SettingsError, match="validator 'snd' looks at a target domain"):
        adapt(Strategy(validator="snd"), type(given)(**{**vars(given), "unlabelled": None}), keep="best", epochs=1)
