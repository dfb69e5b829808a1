"""Training that was cut off and goes on ends with the same weights, bit for bit; and what stops it."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from effxfer.data.batches.batches import Batches
from effxfer.errors import GateError, ResourceError
from effxfer.train.devices import pick_device
from effxfer.train.fit import StepRange, fit
from effxfer.train.settings import FitSettings
from effxfer.train.state import Work

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] * X[:, 1] > 0).long()
CPU = pick_device("cpu")


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))


def epochs(seed: int) -> Batches:
    return Batches(len(X), 8, lambda index, rng: (X[index] + 0.1 * torch.randn(8, 6, generator=rng), Y[index]), seed)


def loss(net, batch, _progress):
    return {"label": nn.functional.cross_entropy(net(batch[0]), batch[1])}


def score(net: nn.Module) -> float:
    was = net.training
    value = float((net.eval()(X).argmax(1) == Y).float().mean())
    net.train(was)
    return value


def run(
    net: nn.Module, work: Work, after_step=lambda _done: None, span: StepRange | None = None, **settings
) -> nn.Module:
    told = FitSettings(**{"epochs": 4, "lr": 0.05, **settings})
    fit(
        net, epochs, loss, told, device=CPU, seed=3, work=work, after_step=after_step,
        span=span or StepRange(), validate=lambda: score(net),
    )  # fmt: skip
    return net


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class CutOffError(Exception):
    pass


def cut(at: int):
    steps = 0

    def after_step(_done: int) -> None:
        nonlocal steps
        steps += 1
        if steps == at:
            raise CutOffError

    return after_step


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ema": 0.9},
        {"optimizer": "sgd", "keep": "last"},
        {"patience": 2, "lr": 0.01},
        {"clip": 0.1, "schedule": "step"},
    ],
    ids=str,
)
@pytest.mark.parametrize("at", [1, 5, 8, 13, 20])
def test_a_run_that_was_cut_off_ends_like_one_that_was_not(tmp_path, settings, at):
    whole = run(make(), Work(None), **settings)
    with pytest.raises(CutOffError):
        run(make(), Work(tmp_path), cut(at), **settings)
    resumed = run(make(), Work(tmp_path), **settings)
    assert equal(whole, resumed)


def test_a_killed_process_goes_on(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from tests.train.test_fit import *; "
        "torch.set_num_threads(1); run(make(), Work(Path(sys.argv[1])), lambda _done: time.sleep(0.05), epochs=30)"
    )
    victim = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    while not (tmp_path / "checkpoint.pt").is_file() and victim.poll() is None:
        time.sleep(0.02)
    time.sleep(random.random() / 4)
    victim.kill()
    assert victim.wait() == -signal.SIGKILL
    assert equal(run(make(), Work(None), epochs=30), run(make(), Work(tmp_path), epochs=30))


def test_a_damaged_checkpoint_is_left_out(tmp_path):
    run(make(), Work(tmp_path))
    file = tmp_path / "checkpoint.pt"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    assert equal(run(make(), Work(tmp_path)), run(make(), Work(None)))


def test_two_spans_are_one_run():
    whole = run(make(), Work(None), keep="last", optimizer="sgd", lr=0.05)
    parts = make()
    for span in (StepRange(last=7), StepRange(first=7)):
        run(parts, Work(None), span=span, keep="last", optimizer="sgd", lr=0.05)
    fresh = make()
    run(fresh, Work(None), span=StepRange(last=7), keep="last", optimizer="sgd")
    assert not equal(whole, fresh)
    assert not equal(parts, fresh)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_at_once_and_keeps_the_last_good_weights(bad):
    steps = []

    def broken(net, batch, progress):
        steps.append(progress)
        terms = loss(net, batch, progress)
        return {"label": terms["label"] * bad} if len(steps) >= 8 else terms

    net = make()
    with pytest.raises(GateError, match="diverged twice"):
        fit(net, epochs, broken, FitSettings(epochs=4, lr=0.05), device=CPU, seed=3)
    assert len(steps) == 9
    assert all(bool(tensor.isfinite().all()) for tensor in net.state_dict().values())


def test_one_divergence_is_retried_at_a_tenth_of_the_rate(tmp_path):
    calls = []

    def once(net, batch, progress):
        calls.append(progress)
        terms = loss(net, batch, progress)
        return {"label": terms["label"] * float("nan")} if len(calls) == 8 else terms

    net = make()
    rows = fit(net, epochs, once, FitSettings(epochs=4, lr=0.05), device=CPU, seed=3, work=Work(tmp_path))
    assert rows[-1]["epoch"] == 4
    assert max(row["lr"] for row in rows[1:]) <= 0.005 + 1e-9
    assert '"diverged": 7' in (tmp_path / "metrics.jsonl").read_text()


def test_what_is_frozen_does_not_move():
    net = make()
    for layer in list(net)[:2]:
        layer.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    run(net, Work(None), keep="last")
    frozen = [name for name in before if name.startswith(("0.", "1."))]
    assert frozen
    assert all(torch.equal(before[name], net.state_dict()[name]) for name in frozen)
    assert not torch.equal(before["4.weight"], net.state_dict()["4.weight"])


def test_masked_weights_stay_zero_in_the_average_too():
    net = make()
    mask = torch.rand_like(net[0].weight) < 0.5

    def keep(_done: int = 0) -> None:
        with torch.no_grad():
            net[0].weight.mul_(mask)

    keep()
    run(net, Work(None), keep, ema=0.9, keep="last")
    assert not bool(net[0].weight[~mask].any())
    assert bool(net[0].weight[mask].any())


def test_hooks_see_the_gradients_before_a_step_and_its_number_after():
    net, seen = make(), []

    def before_step() -> None:
        seen.append((float(net[0].weight.grad.abs().sum()), net[0].weight.detach().clone()))

    def after_step(done: int) -> None:
        assert done == len(seen)
        assert not torch.equal(seen[-1][1], net[0].weight)

    told = FitSettings(epochs=2, lr=0.05, clip=1e-6, warmup=0.0)
    moved = []
    fit(
        net, epochs, loss, told, device=CPU, seed=3, before_step=before_step, after_step=after_step,
        move_state=lambda steps, progress: moved.append((steps, progress)),
    )  # fmt: skip
    assert moved == [(step + 1, step / 10) for step in range(10)]
    assert len(seen) == 10
    assert all(gradient > 1e-4 for gradient, _ in seen), "not clipped yet"


def test_a_span_counts_steps_from_the_whole():
    numbers = []
    run(make(), Work(None), after_step=numbers.append, span=StepRange(first=3, last=7))
    assert numbers == [4, 5, 6, 7]


GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 bytes")
MACHINE = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12")


@pytest.mark.parametrize("error", [GPU, MACHINE, MemoryError(), RuntimeError("std::bad_alloc")])
@pytest.mark.parametrize(("fits", "parts"), [(8, 1), (4, 2), (3, 4), (1, 8)])
def test_where_memory_runs_out_the_batch_is_halved_and_the_gradients_are_the_same(tmp_path, fits, parts, error):
    def greedy(net, batch, progress):
        if len(batch[0]) > fits:
            raise error
        return loss(net, batch, progress)

    def plain() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))

    settings, nets = FitSettings(epochs=2, lr=0.05), (plain(), plain())
    for net, terms in zip(nets, (loss, greedy), strict=True):
        fit(net, epochs, terms, settings, device=CPU, seed=3, work=Work(tmp_path))
        (tmp_path / "checkpoint.pt").unlink()
    for whole, halved in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(whole, halved)
    noted = [json.loads(line).get("parts") for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [n for n in noted if n] == [2, 4, 8][: parts.bit_length() - 1]


def test_memory_that_never_suffices_is_named():
    def hungry(*_):
        raise GPU

    with pytest.raises(ResourceError, match="the GPU's memory is full"):
        fit(make(), epochs, hungry, FitSettings(epochs=1), device=CPU, seed=3)


def test_a_batch_whose_examples_are_compared_is_not_halved():
    sizes = []

    def hungry(_net, batch, _progress):
        sizes.append(len(batch[0]))
        raise GPU

    with pytest.raises(ResourceError, match="the GPU's memory is full"):
        fit(make(), epochs, hungry, FitSettings(epochs=1), device=CPU, seed=3, most_parts=1)
    assert sizes == [8]


def test_training_helps():
    before, after = make(), run(make(), Work(None), epochs=40, keep="last")
    with torch.no_grad():
        first, last = (nn.functional.cross_entropy(net.eval()(X), Y) for net in (before, after))
    assert last < first - 0.1


def test_no_epochs_change_nothing():
    assert equal(make(), run(make(), Work(None), epochs=0))
