import torch
from torch import nn

from effxfer.train.devices import pick_device
from effxfer.train.optim.gradients import Gradients
from effxfer.train.optim.task_gradients import Combination

CPU = pick_device("cpu")


def learner():
    torch.manual_seed(0)
    return nn.ModuleDict({"body": nn.Linear(4, 3), "a": nn.Linear(3, 2), "b": nn.Linear(3, 1)})


def loss(net, batch, _progress):
    features = net["body"](batch).tanh()
    return {"a": net["a"](features).square().mean(), "b": net["b"](features).abs().mean()}


def gradients_of(combine=None, parts=1, amp="off"):
    net = learner()
    combination = Combination(shared=list(net["body"].parameters()), combine=combine) if combine else None
    torch.manual_seed(1)
    sums = Gradients(net, loss, CPU, amp, combination).add_up(torch.randn(8, 4), 0.0, parts)
    return {name: parameter.grad for name, parameter in net.named_parameters()}, sums


def test_their_sum_is_the_gradient_of_the_sum():
    plain, sums = gradients_of()
    combined, same = gradients_of(lambda rows: None)
    assert sums == same
    for name, gradient in plain.items():
        torch.testing.assert_close(combined[name], gradient)


def test_parts_add_up_before_they_are_combined():
    calls = []

    def worst(rows):
        calls.append(rows.shape)
        return rows[0] * rows[1].norm()  # not linear: it must see the whole batch

    whole, _ = gradients_of(worst)
    parts, _ = gradients_of(worst, parts=4)
    assert calls == [(2, 15), (2, 15)]
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient)


def test_heads_keep_their_own_gradients():
    plain, _ = gradients_of()
    combined, _ = gradients_of(lambda rows: torch.zeros_like(rows[0]))
    assert float(combined["body.weight"].abs().max()) == 0
    torch.testing.assert_close(combined["a.weight"], plain["a.weight"])
