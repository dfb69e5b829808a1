"""Weights files as they are found in the wild: what fits is loaded, everything else is named; no code is run."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from effxfer.errors import ModelFileError
from effxfer.net.backbones.weights import load_classifier, load_weights
from tests.net.nets import Flat, holds_weights_of


def body() -> nn.Module:
    torch.manual_seed(2)
    return Flat(0)


PREFIXES = ["", "module.", "model.", "module.model.", "_orig_mod.", "backbone.net."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_prefixes_go_and_the_classifier_is_left_out(tmp_path, trained, prefix, suffix):
    state = {prefix + name: t.clone() for name, t in trained.state_dict().items()}
    file = tmp_path / f"w{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    loaded = body()
    (note,) = load_weights(loaded, file)
    assert holds_weights_of(loaded, trained)
    assert "classifier not loaded" in note
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
    assert holds_weights_of(loaded, trained)


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


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        ({"loss_fn.weight": torch.ones(2)}, "loss_fn.weight"),
        ({"val_acc.tp": torch.zeros(1), "train_metrics.f1.fn": torch.zeros(2)}, "val_acc.tp, train_metrics.f1.fn"),
        ({"data_preprocessor.mean": torch.zeros(3, 1, 1)}, "data_preprocessor.mean"),
        ({"n_averaged": torch.tensor(3)}, "n_averaged"),
        ({"conv.total_ops": torch.zeros(1), "total_params": torch.zeros(1)}, "conv.total_ops, total_params"),
        ({"queue": torch.zeros(3, 4), "queue_ptr": torch.zeros(1)}, "queue, queue_ptr"),
        ({"ema_conv_weight": torch.zeros(4, 3, 3, 3)}, "ema_conv_weight"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_what_trainers_keep_beside_a_network_is_left_out_and_named(tmp_path, trained, beside, named, prefix):
    state = {prefix + name: tensor for name, tensor in trained.state_dict().items() if not name.startswith("fc")}
    torch.save({"state_dict": {**state, **beside}}, tmp_path / "w.pth")
    loaded = body()
    assert load_weights(loaded, tmp_path / "w.pth") == (f"w.pth: not loaded, not part of the network: {named}",)
    assert holds_weights_of(loaded, trained)


def test_counters_of_a_network_that_averages_are_left_out(tmp_path, trained):
    torch.save(torch.optim.swa_utils.AveragedModel(trained).state_dict(), tmp_path / "w.pth")
    loaded = body()
    notes = load_weights(loaded, tmp_path / "w.pth")
    assert holds_weights_of(loaded, trained)
    assert notes[1] == "w.pth: not loaded, not part of the network: n_averaged"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.float8_e5m2])
def test_another_type_is_taken_and_noted(tmp_path, trained, dtype):
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in trained.state_dict().items() if n[:2] != "fc"}
    torch.save(state, tmp_path / "w.pth")
    loaded = body()
    (note,) = load_weights(loaded, tmp_path / "w.pth")
    name = str(dtype).removeprefix("torch.")
    assert note == f"W409 w.pth: 6 tensors are {name}, converted to float32"
    assert torch.equal(loaded.conv.weight, state["conv.weight"].float())


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("sparse_coo float32", lambda t: t.to_sparse()),
        ("qint8", lambda t: torch.quantize_per_tensor(t, 0.5, 0, torch.qint8)),
    ],
)
@pytest.mark.filterwarnings("ignore:torch.quantize")
def test_another_layout_is_taken_and_noted(tmp_path, trained, kind, make):
    with torch.no_grad():
        trained.conv.weight.copy_(trained.conv.weight.mul(4).round() / 2)
    torch.save({**trained.state_dict(), "conv.weight": make(trained.conv.weight.detach())}, tmp_path / "w.pth")
    loaded = body()
    assert load_weights(loaded, tmp_path / "w.pth")[0] == f"W409 w.pth: 1 tensor is {kind}, converted to float32"
    assert holds_weights_of(loaded, trained)


def test_an_expanded_tensor_is_taken(tmp_path, trained):
    torch.save({**trained.state_dict(), "norm.weight": torch.full((1,), 3.0).expand(4)}, tmp_path / "w.pth")
    loaded = body()
    load_weights(loaded, tmp_path / "w.pth")
    assert loaded.norm.weight.tolist() == [3.0] * 4


def test_parameters_are_taken(tmp_path, trained):
    torch.save({**dict(trained.named_parameters()), **dict(trained.named_buffers())}, tmp_path / "w.pth")
    loaded = body()
    load_weights(loaded, tmp_path / "w.pth")
    assert holds_weights_of(loaded, trained)
    assert loaded.conv.weight.requires_grad


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("complex64", lambda t: t.to(torch.complex64)),
        ("without data", lambda t: t.to("meta")),
    ],
)
def test_what_is_no_plain_number_is_refused(tmp_path, trained, kind, make):
    state = trained.state_dict()
    torch.save({**state, "conv.weight": make(state["conv.weight"])}, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "E409", f"conv.weight is {kind}")


def test_a_number_that_is_too_large_for_the_body_is_named(tmp_path, trained):
    torch.save({**trained.state_dict(), "norm.bias": torch.full((4,), 1e300, dtype=torch.float64)}, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "E407", "norm.bias")


def test_only_what_is_taken_is_looked_at(tmp_path, trained):
    state = {**trained.state_dict(), "fc.weight": torch.full((5, 4), float("nan")), "empty.loss": torch.zeros(0)}
    torch.save(
        {"state_dict": state, "optimizer": {"state": {0: {"exp_avg": torch.tensor(1 + 1j)}}}}, tmp_path / "w.pth"
    )
    loaded = body()
    load_weights(loaded, tmp_path / "w.pth")
    assert holds_weights_of(loaded, trained)


@pytest.mark.parametrize("part", ["teacher", "student"])
def test_the_classifier_is_that_of_the_network_that_was_chosen(tmp_path, trained, part):
    nets = {"teacher": trained.state_dict(), "student": {n: t + 1 for n, t in trained.state_dict().items()}}
    torch.save({"model": {f"{name}.{n}": t for name, net in nets.items() for n, t in net.items()}}, tmp_path / "w.pth")
    layer = load_classifier(body(), tmp_path / "w.pth", part, 4)
    assert torch.equal(layer.weight, nets[part]["fc.weight"])
    assert torch.equal(layer.bias, nets[part]["fc.bias"])
    assert load_classifier(body(), tmp_path / "w.pth", part, 5) is None


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_nested_tensor_is_missing(tmp_path, trained):
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(2)])
    torch.save({**trained.state_dict(), "norm.weight": nested}, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "E405", "1 missing (norm.weight)")
