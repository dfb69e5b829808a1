"""Tickets and adapters in a model directory are those that its manifest lists."""

import os
import shutil
from pathlib import Path

import pytest

from effxfer import adapter_file
from effxfer.errors import ModelFileError
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.merge import base_state
from effxfer.net.settings import BackboneSettings
from effxfer.prune.tickets.file import pack
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.stages.runner.source import AdapterOnBase, input_kind, read_adapter, read_ticket
from effxfer.stages.settings.common import ADAPTER, TICKET
from tests.forged import listed

ORIGIN = {"key": "", "data": [], "reached": {}, "versions": {}}
READ = {TICKET: read_ticket, ADAPTER: read_adapter}


def contents(width):
    net = rebuild({"source": "effxfer.net.cifar:resnet20", "args": {"width": width}}, [], Preprocess(size=16))
    recipe = {"stage": "prune lottery", "settings": {"strategy": "full", "options": {}, "fit": {}}}
    adapter = adapter_file.pack(net, base_state(net), strategy="lora", trained=0, recipe={}, origin=ORIGIN)
    apply_edit(net, "sparsify", weights=["body.stem.0.weight"])
    ticket = pack(net, net.state_dict(), rewind="", recipe=recipe, origin=ORIGIN)
    return {TICKET: ticket.content, ADAPTER: adapter.content}


@pytest.fixture(scope="module")
def ours():
    return contents(2)


@pytest.fixture(params=[TICKET, ADAPTER])
def name(request):
    return request.param


@pytest.fixture
def made(dense, tmp_path, ours, name):
    return listed(shutil.copytree(dense.path, tmp_path / "made"), name, ours[name])


def refused(path, name, code="E404"):
    with pytest.raises(ModelFileError) as caught:
        READ[name](path)
    assert caught.value.code == code
    return str(caught.value)


def test_what_the_manifest_lists_is_read(made, name, ours):
    assert READ[name](made).content == ours[name]
    assert READ[name](made / name).content == ours[name]


def test_that_of_another_run_is_not(made, name):
    (made / name).write_bytes(contents(3)[name])
    assert f"{made / name} was changed since it was written" in refused(made, name)


def test_one_that_is_not_listed_is_not_either(dense, tmp_path, name, ours):
    made = shutil.copytree(dense.path, tmp_path / "made")
    (made / name).write_bytes(ours[name])
    assert f"is the result of finetune and holds no {name}" in refused(made, name, code="")


def test_nor_one_beside_which_there_is_no_manifest(tmp_path, name, ours):
    (tmp_path / name).write_bytes(ours[name])
    assert f"nothing vouches for its {name}" in refused(tmp_path, name, code="")
    assert READ[name](tmp_path / name).content == ours[name]


def test_a_link_and_a_pipe_are_refused(made, name, tmp_path):
    (made / name).rename(tmp_path / "elsewhere")
    (made / name).symlink_to(tmp_path / "elsewhere")
    assert "is a link" in refused(made, name)
    os.mkfifo(tmp_path / "pipe")
    assert "a named pipe, no regular file" in refused(tmp_path / "pipe", name, code="E403")
    assert "a device, no regular file" in refused(Path("/dev/zero"), name, code="E403")


@pytest.mark.parametrize("size", [0, 1, 8, 9, 2**20, 3 * 2**30, 2**40])
def test_sizes_are_looked_at_before_anything_is_read(tmp_path, name, size):
    file = tmp_path / "it"
    file.touch()
    os.truncate(file, size)
    assert "E403" in refused(file, name, code="E403")


def test_a_file_longer_than_it_says_is_not_whole(tmp_path, name, ours):
    file = tmp_path / "it"
    file.write_bytes(ours[name])
    os.truncate(file, 2**32)
    assert f"it has {2**32} bytes, not {len(ours[name])}" in refused(file, name, code="E403")


def test_the_kind_of_input_is_known_from_names_and_files(dense, ours, tmp_path):
    def kind(source):
        return input_kind(BackboneSettings(source=source))

    assert [kind(name) for name in ("timm:resnet18", "torchvision:resnet18", "resnet20-cifar10")] == ["image"] * 3
    assert kind("hf:somewhere") == "text"
    assert kind("effxfer.net.cifar:resnet20") == ""
    assert input_kind(dense) == kind(str(dense.path)) == "image"
    (tmp_path / TICKET).write_bytes(ours[TICKET])
    (tmp_path / ADAPTER).write_bytes(ours[ADAPTER])
    assert input_kind(read_ticket(tmp_path / TICKET)) == "image"
    assert input_kind(AdapterOnBase(BackboneSettings(source="hf:x"), read_adapter(tmp_path / ADAPTER))) == "text"
