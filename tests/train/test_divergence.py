"""What is kept when training breaks: the last good weights, also of the average, with and without a directory."""

import pytest
import torch
from torch import nn

from effxfer.errors import GateError, SettingsError
from effxfer.train.devices import pick_device
from effxfer.train.fit import fit
from effxfer.train.settings import FitSettings
from effxfer.train.state import Work
from tests.train.test_fit import epochs, loss, make, score

CPU = pick_device("cpu")
STEPS = 5


def run(net, work, after_step=lambda _done: None, **settings):
    told = FitSettings(**{"epochs": 4, "lr": 0.02, "keep": "last", **settings})
    return fit(
        net, epochs, loss, told, device=CPU, seed=3, work=work, after_step=after_step, validate=lambda: score(net)
    )


def breaking(net: nn.Module, at: set[int]):
    """Make weights NaN after the given steps, as a step with an infinite gradient does."""
    calls = 0

    def after_step(_done: int) -> None:
        nonlocal calls
        calls += 1
        if calls in at:
            with torch.no_grad():
                net[4].weight.fill_(float("nan"))

    return after_step


def finite(net: nn.Module) -> bool:
    return all(bool(t.isfinite().all()) for t in net.state_dict().values())


@pytest.fixture(params=["directory", "memory"])
def work(request, tmp_path):
    return Work(tmp_path if request.param == "directory" else None)


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("at", [2, STEPS, 2 * STEPS], ids=["first epoch", "last step of an epoch", "end of the second"])
def test_broken_weights_are_never_kept(work, at, ema):
    """The last step of an epoch breaks the weights that its checkpoint would hold."""
    net = make()
    rows = run(net, work, breaking(net, {at}), ema=ema)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert finite(net)
    assert score(net) > 0.3


def test_the_last_step_of_all_is_looked_at_too(work):
    net = make()
    with pytest.raises(GateError, match="weights are not finite after 20 steps"):
        run(net, work, breaking(net, {20, 25}))
    assert finite(net)


def test_epochs_before_the_break_are_not_lost(work):
    net, seen = make(), []
    after = breaking(net, {3 * STEPS + 1})
    run(net, work, lambda done: (seen.append(1), after(done)), ema=0.5)
    assert len(seen) <= 4 * STEPS + 2, "only the broken epoch is done again"


def test_an_error_while_validating_puts_the_own_weights_back(tmp_path):
    net = make()
    calls = []

    def fail():
        calls.append([p.clone() for p in net.parameters()])
        raise KeyError

    with pytest.raises(KeyError):
        fit(net, epochs, loss, FitSettings(epochs=2, lr=0.05, ema=0.5), device=CPU, seed=3, validate=fail)
    assert any(not torch.equal(a, b) for a, b in zip(calls[0], net.parameters(), strict=True))


def test_a_score_may_be_of_any_number_type(tmp_path):
    import numpy as np

    net = make()
    told = FitSettings(epochs=2, lr=0.01)
    fit(net, epochs, loss, told, device=CPU, seed=3, work=Work(tmp_path), validate=lambda: np.float64(score(net)))
    rows = fit(make(), epochs, loss, told, device=CPU, seed=3, work=Work(tmp_path))
    assert len(rows) == 2, "its checkpoint can be read"


def test_a_misspelt_optimizer_is_suggested():
    with pytest.raises(SettingsError, match="did you mean 'adamw'"):
        run(make(), Work(None), optimizer="adamww")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion", "rmsprop"])
def test_optimizers_of_timm_train(optimizer):
    before, net = make(), make()
    run(net, Work(None), optimizer=optimizer, epochs=1)
    assert not torch.equal(before[0].weight, net[0].weight)
