"""One optimizer step: it is what torch says it is, and its state is all the next one depends on."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from effxfer.errors import ResourceError, SettingsError
from effxfer.train.devices import pick_device
from effxfer.train.optim.gradients import DivergedError
from effxfer.train.optim.update import Update
from effxfer.train.settings import FitSettings

BATCH = (torch.randn(8, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1] * 4))
CPU = pick_device("cpu")


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.3), nn.Linear(8, 2))


def loss(net, batch, _done):
    return {"label": nn.functional.cross_entropy(net(batch[0]), batch[1])}


def update(net, *, loss=loss, before=lambda: None, after=lambda _done, _progress: None, **settings) -> Update:
    return Update(net, loss, FitSettings(lr=0.1, **settings), CPU, 3, before, after, lambda _row: None)


def steps(make_step: Update, first: int, last: int) -> None:
    for step in range(first, last):
        make_step(BATCH, step=step, progress=step / 10, factor=0.5)


def test_the_first_step_is_that_of_nesterov_momentum():
    net = nn.Sequential(nn.Linear(6, 2))
    weight, value = net[0].weight.detach().clone(), loss(net, BATCH, 0)["label"]
    (gradient,) = torch.autograd.grad(value, [net[0].weight])
    plain = update(net, optimizer="sgd", weight_decay=0.0, clip=0.0)
    assert plain(BATCH, step=0, progress=0.0, factor=0.5) == {"loss": pytest.approx(value.item())}
    torch.testing.assert_close(net[0].weight.detach(), weight - 0.05 * 1.9 * gradient)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_next_steps_depend_on_its_state_and_the_learner_alone(ema):
    straight, first, second = make(), make(), make()
    steps(update(straight, ema=ema), 0, 6)
    begun = update(first, ema=ema)
    steps(begun, 0, 3)
    after = update(second, ema=ema)
    second.load_state_dict(first.state_dict())
    after.load(deepcopy(begun.state()))
    steps(after, 3, 6)
    for one, other in zip(straight.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_its_order_is_gradients_then_clipping_then_the_step():
    net, seen = make(), []

    def before():
        seen.append(("before", float(net[0].weight.grad.norm())))

    def after(done, progress):
        assert progress == 0.4
        seen.append(("after", done, float(net[0].weight.grad.norm())))

    update(net, before=before, after=after, clip=1e-6)(BATCH, step=4, progress=0.4, factor=1.0)
    assert seen[0][0] == "before"
    assert seen[0][1] > 1e-4
    assert seen[1][:2] == ("after", 5)
    assert seen[1][2] <= 1e-6


def test_several_terms_are_told_beside_their_sum():
    def two(net, batch, done):
        return {"label": loss(net, batch, done)["label"], "drift": net[0].weight.square().sum()}

    told = update(make(), loss=two)(BATCH, step=0, progress=0.0, factor=1.0)
    assert told["loss"] == pytest.approx(told["label"] + told["drift"])


def test_a_loss_that_is_no_number_changes_nothing():
    net = make()
    before = deepcopy(net.state_dict())
    with pytest.raises(DivergedError):
        update(net, loss=lambda net, _batch, _done: {"label": net[0].weight.sum() * math.nan})(
            BATCH, step=0, progress=0.0, factor=1.0
        )
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_after_a_reset_the_average_begins_anew():
    net = make()
    one = update(net, ema=0.9)
    steps(one, 0, 3)
    assert not torch.equal(one.average.weights["0.weight"], net[0].weight)
    one.reset()
    assert torch.equal(one.average.weights["0.weight"], net[0].weight)
    assert not one.optimizer.state


def test_a_batch_of_one_image_under_batchnorm_is_said():
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    with pytest.raises(SettingsError) as caught:
        update(net)((BATCH[0][:1], BATCH[1][:1]), step=0, progress=0.0, factor=0.5)
    assert caught.value.code == "E217"
    assert "options.batch=2" in caught.value.hint


def test_parts_of_one_image_under_batchnorm_are_a_lack_of_memory():
    def hungry(net, batch, done):
        if len(batch[0]) > 1:
            raise MemoryError
        return loss(net, batch, done)

    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    with pytest.raises(ResourceError, match="the memory is full"):
        update(net, loss=hungry)(BATCH, step=0, progress=0.0, factor=0.5)


def test_another_error_stays_what_it_is():
    def wrong(*_):
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        update(make(), loss=wrong)(BATCH, step=0, progress=0.0, factor=0.5)
