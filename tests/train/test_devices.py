import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from effxfer.errors import SettingsError
from effxfer.train.devices import Device, half_precision, pick_device, process_group, slow_precision

CPU = torch.device("cpu")


def test_one_process_is_alone(monkeypatch):
    device = pick_device("cpu")
    assert (device.torch, device.rank, device.world, device.leads) == (CPU, 0, 1, True)
    net = nn.Linear(2, 2)
    assert device.parallel(net) is net
    assert (device.agree(True), device.agree(False), device.broadcast(3.5)) == (True, False, 3.5)
    with process_group(device):
        assert not torch.distributed.is_initialized()


def test_torchrun_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    device = pick_device("cpu")
    assert (device.rank, device.world, device.leads) == (3, 4, False)


@pytest.mark.parametrize("variable", ["RANK", "WORLD_SIZE"])
def test_a_rank_that_is_none_is_named(monkeypatch, variable):
    monkeypatch.setenv(variable, "abc")
    with pytest.raises(SettingsError, match=f"{variable} is 'abc', not a whole number"):
        pick_device("cpu")


@pytest.mark.parametrize(("name", "text"), [("foo", "no device is called 'foo'"), ("cpu:x", "no device is called")])
def test_a_device_that_is_none_is_named(name, text):
    with pytest.raises(SettingsError, match=text):
        pick_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:99"])
def test_a_gpu_that_is_absent_is_named(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SettingsError, match="torch sees no GPU"):
        pick_device(name)


def test_a_gpu_too_high_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SettingsError, match="torch sees 2 GPUs"):
        pick_device("cuda:2")


def test_automatic_choice_takes_this_processs_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("auto").torch == pick_device("cuda").torch == torch.device("cuda", 1)


def test_half_precision_is_off_on_a_cpu_unless_asked_for():
    assert half_precision(CPU, "auto") is half_precision(CPU, "off") is None
    assert half_precision(CPU, "bf16") is torch.bfloat16
    with Device(torch=CPU).autocast("bf16"):
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype is torch.bfloat16
    with Device(torch=CPU).autocast("auto"):
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype is torch.float32
    assert not Device(torch=CPU).scaler("bf16").is_enabled()


def start(module: str, *words: object, world: int = 2) -> list[subprocess.Popen]:
    """Start a module in several processes, as `torchrun` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, *map(str, words)]
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": Path(__file__).parents[2]}
    return [subprocess.Popen(command, env={**os.environ, **shared, **rank}, **pipes) for rank in ranks]


def ended(processes: list[subprocess.Popen]) -> list[tuple[str, str]]:
    try:
        found = [process.communicate(timeout=400) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), found
    return found


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two processes trained together; the second one met a loss that is no number."""
    folder = tmp_path_factory.mktemp("pair")
    ended(start("tests.train.pair", folder))
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_two_processes_end_with_the_same_weights_and_statistics(pair):
    _, (one, other) = pair
    assert one["net"].keys() == other["net"].keys()
    for name, tensor in one["net"].items():
        assert torch.equal(tensor, other["net"][name]), name


def test_two_processes_decide_alike(pair):
    """Although only one of them diverged, and each measured another score."""
    _, (one, other) = pair
    assert one["steps"] == other["steps"]
    assert [row["score"] for row in one["rows"]] == [row["score"] for row in other["rows"]]
    assert all(row["score"] % 10 == 0 for row in one["rows"]), "the leader's score counts"
    assert [row["epoch"] for row in one["rows"]] == [1, 2, 3]


def test_only_the_leader_writes(pair):
    folder, _ = pair
    lines = (folder / "work" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 4, "three epochs and one divergence"
    assert sum("diverged" in line for line in lines) == 1


def test_what_is_drawn_depends_on_the_seed_alone():
    drawn = []
    for seed in (7, 8, 7):
        pick_device("cpu").draw_from(seed)
        drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], torch.rand(3, generator=torch.Generator().manual_seed(7)))


@pytest.mark.parametrize("name", ["meta", "mps", "xpu"])
def test_a_device_that_torch_cannot_compute_on_is_refused(name):
    if name != "meta" and getattr(torch, name).is_available():
        pytest.skip(f"this machine has {name}")
    with pytest.raises(SettingsError, match=f"torch cannot compute on '{name}' here"):
        pick_device(name)


@pytest.mark.parametrize(("amp", "dtype"), [("bf16", "bf16"), ("fp16", "fp16")])
def test_half_precision_without_instructions_for_it_is_noted(monkeypatch, amp, dtype):
    for supported in (True, False):
        fake = SimpleNamespace(**{f"_is_mkldnn_{dtype}_supported": lambda supported=supported: supported})
        monkeypatch.setattr("effxfer.train.devices.torch.ops", SimpleNamespace(mkldnn=fake))
        assert (amp in slow_precision(CPU, amp)) == (not supported)
        assert not slow_precision(torch.device("cuda"), amp)
    assert not slow_precision(CPU, "auto")
    assert not slow_precision(CPU, "off")
