"""Weights files as they are found in the wild: what fits is loaded, everything else is named; no code is run."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from effxfer.errors import ModelFileError
from effxfer.net.weights import load_weights, read_state
from tests.net.nets import Flat


@pytest.fixture
def trained():
    torch.manual_seed(1)
    net = Flat(5)
    net.norm.running_mean.uniform_(-1, 1)
    return net


def body() -> nn.Module:
    torch.manual_seed(2)
    return Flat(0)


def same(loaded, trained):
    return all(torch.equal(t, trained.state_dict()[name]) for name, t in loaded.state_dict().items())


PREFIXES = ["", "module.", "model.", "module.model.", "_orig_mod.", "backbone.net."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_prefixes_go_and_the_classifier_is_left_out(tmp_path, trained, prefix, suffix):
    state = {prefix + name: t.clone() for name, t in trained.state_dict().items()}
    file = tmp_path / f"w{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    loaded = body()
    (note,) = load_weights(loaded, file)
    assert same(loaded, trained)
    assert "classifier left out" in note
    assert "fc.weight" in note


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda s: {"model": s},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {"state_dict": {"module." + k: v for k, v in s.items()}},
    ],
)
def test_a_nested_table_is_found(tmp_path, trained, wrap):
    torch.save(wrap(trained.state_dict()), tmp_path / "w.pth")
    loaded = body()
    load_weights(loaded, tmp_path / "w.pth")
    assert same(loaded, trained)


def test_half_precision_fits(tmp_path, trained):
    state = {name: t.half() if t.is_floating_point() else t for name, t in trained.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    loaded = body()
    load_weights(loaded, tmp_path / "w.safetensors")
    assert torch.equal(loaded.conv.weight, trained.conv.weight.half().float())
    assert loaded.conv.weight.dtype is torch.float32


def refused(file, code, *texts):
    loaded = body()
    before = {name: t.clone() for name, t in loaded.state_dict().items()}
    with pytest.raises(ModelFileError) as caught:
        load_weights(loaded, file)
    assert caught.value.code == code, caught.value
    assert all(text in str(caught.value) for text in (file.name, *texts)), caught.value
    assert all(torch.equal(t, before[name]) for name, t in loaded.state_dict().items()), "nothing is loaded by half"


def test_shapes_that_do_not_fit_are_listed(tmp_path):
    save_file({n: t.clone() for n, t in Flat(5, 6).state_dict().items()}, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", "E405", "conv.weight is (6, 3, 3, 3), not (4, 3, 3, 3)", "and 1 more")


def test_missing_tensors_are_listed(tmp_path, trained):
    state = {n: t.clone() for n, t in trained.state_dict().items() if not n.startswith("norm")}
    save_file(state, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", "E405", "4 missing", "norm.weight")


def test_tensors_too_many_are_listed(tmp_path, trained):
    save_file({**trained.state_dict(), "conv2.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    refused(tmp_path / "w.safetensors", "E406", "conv2.weight")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_named(tmp_path, trained, bad):
    state = trained.state_dict()
    state["norm.running_var"][2] = bad
    torch.save(state, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "E407", "norm.running_var")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, trained, suffix, share):
    file = tmp_path / f"w{suffix}"
    save_file(trained.state_dict(), file) if suffix == ".safetensors" else torch.save(trained.state_dict(), file)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    refused(file, "E403")


@pytest.mark.parametrize(
    "content", [b"<html>404</html>", b"\0" * 50, b"PK\3\4" + b"x" * 90], ids=["html", "zeros", "zip"]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_weights_file_is_named(tmp_path, content, suffix):
    (tmp_path / f"w{suffix}").write_bytes(content)
    refused(tmp_path / f"w{suffix}", "E403")


def test_a_header_that_claims_too_much_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    refused(tmp_path / "w.safetensors", "E403")


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("kind", ["zip", "legacy", "plain"])
def test_code_is_refused_and_never_runs(tmp_path, monkeypatch, trained, kind, forced):
    """Also where TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD would switch torch's own caution off."""
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    evil = {**trained.state_dict(), "x": Canary(tmp_path / "canary")}
    if kind == "plain":
        (tmp_path / "w.pth").write_bytes(pickle.dumps(evil["x"]))
    else:
        torch.save(evil, tmp_path / "w.pth", _use_new_zipfile_serialization=kind == "zip")
    refused(tmp_path / "w.pth", "E401", "holds code")
    assert not (tmp_path / "canary").exists()


def test_a_pickled_network_is_refused(tmp_path, trained):
    torch.save(trained, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "E401", "safetensors")


@pytest.mark.parametrize("value", [[1, 2], {"a": 3}, {"state_dict": {"a": "b"}}])
def test_what_is_no_table_of_tensors_is_named(tmp_path, value):
    torch.save(value, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "E402")


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match="no weights file"):
        read_state(tmp_path / "w.pth")
