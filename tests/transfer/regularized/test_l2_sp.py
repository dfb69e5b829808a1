import pytest
import torch

from effxfer.transfer.fine_tuning.full import Full
from effxfer.transfer.regularized.l2_sp import L2Sp, squared_drift
from effxfer.transfer.regularized.reference_model import WithReference
from tests.transfer.tasks import adapt, body, task

PLAIN = {"batch": 12, "augment": {"crop": "none", "flip": False}}


def travelled(before, after):
    names = [name for name in before if name.startswith("body.") and before[name].is_floating_point()]
    return sum(float((after[n] - before[n]).square().sum()) for n in names if "running" not in n)


def test_the_body_ends_nearer_to_where_it_started():
    """The claim, against the null setting; which is plain fine-tuning bit for bit."""
    given, fit = task(), {"epochs": 3, "optimizer": "sgd", "lr": 0.02, "weight_decay": 0.0}
    _, before, plain, _ = adapt(Full(**PLAIN), given, **fit)
    _, _, null, _ = adapt(L2Sp(**PLAIN, alpha=0.0), given, **fit)
    assert all(torch.equal(plain[name], null[name]) for name in plain)
    _, _, pulled, rows = adapt(L2Sp(**PLAIN, alpha=3.0), given, **fit)
    assert travelled(before, pulled) < 0.5 * travelled(before, plain)
    assert rows[0]["pull"] > 0


def test_the_distance_by_hand():
    net = body()
    learner = WithReference(net)
    assert squared_drift(learner).item() == 0
    first = next(net.body.parameters())
    with torch.no_grad():
        first.add_(0.5)
    net.head = torch.nn.Linear(16, 2)
    expected = 0.25 * first.numel()
    assert squared_drift(learner).item() == pytest.approx(expected, rel=1e-5), "the head is free"
    first.requires_grad_(False)
    assert squared_drift(learner).item() == 0, "what is frozen needs no pull"
    net.body.requires_grad_(False)
    assert squared_drift(learner).item() == 0


def test_what_it_was_is_neither_saved_nor_trained():
    learner = WithReference(body())
    assert all(name.startswith("net.") for name in learner.state_dict())
    assert not any(p.requires_grad for p in learner.source.parameters())
    assert not learner.train().source.training
