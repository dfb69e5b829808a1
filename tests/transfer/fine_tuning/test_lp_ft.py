import pytest
import torch

from effxfer.transfer.fine_tuning.full import Full
from effxfer.transfer.fine_tuning.linear import solve_
from effxfer.transfer.fine_tuning.lp_ft import LpFt
from tests.transfer.tasks import adapt, task

PLAIN = {"batch": 12, "augment": {"crop": "none", "flip": False}}


def test_a_good_head_distorts_the_body_less(pretrained):
    """The claim, against a fresh head: training begins with a lower loss, and moves the body less to a lower one."""
    given, fit = task(), {"epochs": 2, "optimizer": "sgd", "lr": 0.05, "weight_decay": 0.0}
    found = {}
    for strategy in (Full(**PLAIN), LpFt(**PLAIN)):
        net, before, after, rows = adapt(strategy, given, net=pretrained(), **fit)
        names = [name for name, _ in net.named_parameters() if name.startswith("body.")]
        far = sum(float((after[n] - before[n]).square().sum()) for n in names)
        found[type(strategy)] = (rows[0]["loss"], rows[-1]["loss"], far)
    assert all(one < other for one, other in zip(found[LpFt], found[Full], strict=True))


def test_no_epochs_leave_the_probe_and_the_body_as_it_was():
    _, before, after, _ = adapt(LpFt(**PLAIN), task(), epochs=0)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("body."))
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("head."))


@pytest.mark.parametrize("l2", [1e-3, 1.0])
def test_the_head_is_where_the_slope_is_zero(l2):
    torch.manual_seed(0)
    features, labels = torch.randn(40, 5), torch.randint(0, 3, (40,))
    head = torch.nn.Linear(5, 3)
    solve_(head, features, labels, l2)
    loss = torch.nn.functional.cross_entropy(head(features), labels) + l2 / 2 * head.weight.square().sum()
    slopes = torch.autograd.grad(loss, list(head.parameters()))
    assert max(float(s.abs().max()) for s in slopes) < 1e-3
    assert all(p.grad is None for p in head.parameters())
