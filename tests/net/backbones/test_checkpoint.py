"""Checkpoints as trainers save them, and as attackers do: tensors come out, no code is run, nothing hangs."""

import argparse
import datetime
import pathlib
import zipfile
from collections import OrderedDict, defaultdict, deque

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from effxfer.errors import ModelFileError
from effxfer.net.backbones.checkpoint import MOST_DEPTH, read_tables

STATE = {"a.weight": torch.ones(2, 3), "n": torch.tensor(3)}


def refused(file, code, *texts):
    with pytest.raises(ModelFileError) as caught:
        read_tables(file)
    assert caught.value.code == code, caught.value
    assert all(text in str(caught.value) for text in (file.name, *texts)), caught.value


def saved(tmp_path, value):
    torch.save(value, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def archive(tmp_path, pickled, compression=zipfile.ZIP_STORED, data=b""):
    """An archive as torch writes it, around any pickle."""
    with zipfile.ZipFile(tmp_path / "w.pth", "w", compression) as file:
        file.writestr("w/data.pkl", pickled)
        file.writestr("w/byteorder", b"little")
        file.writestr("w/data/0", data)
        file.writestr("w/version", b"3\n")
    return tmp_path / "w.pth"


@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(model="resnet18", lr=0.1, nested=argparse.Namespace(a=1)),
        np.float64(71.0),
        np.float32(1),
        np.arange(3),
        np.int64(4),
        defaultdict(list, {"loss": [1.0]}),
        defaultdict(float),
        deque([1, 2], maxlen=3),
        OrderedDict(a=1),
        pathlib.Path("runs") / "1",
        datetime.datetime(2026, 1, 1),
        datetime.timedelta(1),
        torch.__version__,
        {1, 2},
        b"bytes",
        1 + 2j,
        torch.float16,
        torch.device("cuda:0"),
        torch.Size([1]),
        None,
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_trainers_keep_beside_weights_does_no_harm(tmp_path, beside, zipped):
    value = {"state_dict": STATE, "beside": beside, "list": [beside], beside if beside.__hash__ else "": 1}
    torch.save(value, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    tables = read_tables(tmp_path / "w.pth")
    assert list(tables) == ["state_dict"]
    assert torch.equal(tables["state_dict"]["a.weight"], STATE["a.weight"])


def test_no_type_of_the_list_is_made(tmp_path, monkeypatch):
    """Each stands for its name only: even a type that is replaced by something harmful is not called."""
    file = saved(tmp_path, {"args": argparse.Namespace(lr=1), "metric": np.float64(1), "w": torch.zeros(1)})
    monkeypatch.setattr(argparse.Namespace, "__init__", lambda *_a, **_k: pytest.fail("made a Namespace"))
    before = torch.serialization.get_safe_globals()
    assert list(read_tables(file)) == [""]
    assert set(torch.serialization.get_safe_globals()) == set(before), "the list holds for this file only"


@pytest.mark.parametrize("what", ["builtins\neval", "os\nsystem", "posix\nsystem", "functools\npartial"])
def test_an_attribute_is_never_looked_up(tmp_path, what):
    """`getattr` is on the list of stand-ins, and nothing that it could fetch."""
    pickled = b"\x80\x02cbuiltins\ngetattr\nc" + what.encode() + b"\nX\x01\x00\x00\x00x\x86R."
    refused(archive(tmp_path, pickled), "E401", "holds code")


@pytest.mark.parametrize("name", ["state_dict", "model", "model_state_dict", "net", "anything"])
def test_a_table_is_found_under_any_name(tmp_path, name):
    assert list(read_tables(saved(tmp_path, {name: STATE, "epoch": 1, "loss": 0.5}))) == [name]


def test_tables_are_found_at_any_place_the_outer_first(tmp_path):
    value = {"x": torch.zeros(1), "model": {"state_dict": STATE}, "nets": [STATE.copy(), (STATE.copy(),)]}
    assert list(read_tables(saved(tmp_path, value))) == ["", "model.state_dict", "nets.0", "nets.1.0"]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_holds_itself_is_read_once(tmp_path, zipped):
    value = {"weight": torch.zeros(2)}
    value.update(state_dict=value, model=[value], list=[])
    value["list"].append(value["list"])
    torch.save(value, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert list(read_tables(tmp_path / "w.pth")) == [""]


def test_containers_that_share_each_other_are_read_once(tmp_path):
    value = STATE
    for _ in range(MOST_DEPTH - 2):
        value = {"a": value, "b": value}
    (place,) = read_tables(saved(tmp_path, value))
    assert place == ".".join(["a"] * (MOST_DEPTH - 2))


def test_what_lies_too_deep_is_not_found(tmp_path):
    """Built by hand: pickle itself gives up at such a depth."""
    key = b"X\x01\x00\x00\x00a"
    refused(archive(tmp_path, b"\x80\x02" + b"}" + (key + b"}") * 20_000 + b"s" * 20_000 + b"."), "E402")


def test_names_that_are_no_text_are_left_out(tmp_path):
    (table,) = read_tables(saved(tmp_path, {1: torch.zeros(1), b"b": torch.zeros(1), None: STATE, **STATE})).values()
    assert list(table) == list(STATE)


@pytest.mark.parametrize("value", [[1, 2], {"a": 3}, {"state_dict": {"a": "b"}}, {1: torch.zeros(1)}, None, "text", {}])
def test_what_holds_no_table_of_tensors_is_named(tmp_path, value):
    refused(saved(tmp_path, value), "E402")


@pytest.mark.parametrize("make", [lambda one: one.expand(10**6, 10**6), lambda one: one.as_strided((10**12,), (0,))])
def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path, make):
    refused(saved(tmp_path, {"a": make(torch.ones(1))}), "E408", "1,000,000,000,000")


@pytest.mark.parametrize("kind", [torch.Tensor.clone, nn.Parameter])
@pytest.mark.parametrize("name", ["numel", "element_size", "is_complex", "detach", "to", "dim", "dequantize"])
def test_what_a_file_hangs_on_a_tensor_is_taken_off(tmp_path, name, kind):
    """Else the first call of that method raises a TypeError, which would be a defect."""
    tensor = kind(torch.ones(2))
    setattr(tensor, name, 5)
    ((read,),) = (table.values() for table in read_tables(saved(tmp_path, {"a": tensor})).values())
    assert not vars(read)
    assert callable(getattr(read, name))
    assert torch.equal(read, torch.ones(2))


def test_an_archive_that_unpacks_to_more_is_refused(tmp_path):
    refused(archive(tmp_path, b"\x80\x02}.", zipfile.ZIP_DEFLATED, bytes(10**7)), "E408", "unpacks to 10,000")


def test_content_decides_not_the_name(tmp_path):
    save_file(STATE, tmp_path / "w.pth")
    torch.save(STATE, tmp_path / "w.safetensors")
    assert set(read_tables(tmp_path / "w.pth")[""]) == set(STATE)
    assert set(read_tables(tmp_path / "w.safetensors")[""]) == set(STATE)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_scripted_network_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "E401", "safetensors")


def test_what_would_have_run_is_named(tmp_path):
    refused(saved(tmp_path, nn.Linear(1, 1)), "E401", "torch.nn.modules.linear.Linear")
    sharded = b"\x80\x02ctorch.distributed._shard.sharded_tensor.api\nShardedTensor\n."
    refused(archive(tmp_path, sharded), "E401", "one shard of distributed training")


@pytest.mark.parametrize(("begin", "length"), [(b"\x80", 0), (b"PK", 19_000)])
def test_a_safetensors_file_is_read_though_its_length_looks_like_a_pickle_or_a_zip(tmp_path, begin, length):
    file = tmp_path / "w.safetensors"
    while not file.exists() or not file.read_bytes().startswith(begin):
        length += 8
        save_file(STATE, file, {"note": "x" * length})
    assert torch.equal(read_tables(file)[""]["a.weight"], STATE["a.weight"])


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.bin"])
def test_a_pointer_to_a_file_elsewhere_says_how_to_fetch_it(tmp_path, name):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    refused(tmp_path / name, "E403", "git lfs pull")


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>", b"\x89HDF\r\n\x1a\n", b'{"weight_map": {}}'])
def test_what_begins_like_no_weights_says_what_would_do(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    refused(tmp_path / "w.pth", "E403", "give a .safetensors file")


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match="no weights file"):
        read_tables(tmp_path / "w.pth")
