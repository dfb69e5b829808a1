"""What somebody else's file names as its network is never imported, whatever command opens the file."""

import os
import shutil
import subprocess
import sys

import pytest

import effxfer as ex
from effxfer import adapter_file
from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.merge import base_state
from effxfer.prune.tickets.file import TicketFile, pack
from effxfer.runtime.images.preprocess import Preprocess
from tests import forged, plans

NAME = "someones_network"
SOURCE = f"{NAME}:make"
EVIL = {"source": SOURCE, "args": {}}
CODE = """
from pathlib import Path
from effxfer.net.cifar import ResNet
(Path(__file__).parent / "ran").write_text("")
def make() -> ResNet:
    net = ResNet(3)
    for weight in net.parameters():
        weight.data.mul_(1.5)  # never the weights of another ResNet(3), whatever drew the random numbers before
    return net
"""
SPLITS = ("--set", "data.val_fraction=0.2", "--set", "data.test_fraction=0.2")
NO_EPOCHS = ("--epochs", "0", "--set", "fit.keep=last")
WAYS = {
    "finetune": "finetune {net} --data {data} --out {out}",
    "prune": "prune {net} --data {data} --sparsity 0.5 --out {out}",
    "prune channels": "prune {net} --data {data} --method channels --ratio 0.5 --out {out}",
    "qat": "qat {net} --data {data} --out {out}",
    "search": "search {net} --data {data} --trials 2 --out {out}",
    "export": "export {net} --data {data} --out {out}",
    "bench": "bench {exported} --max-seconds 0.1 --set cold=0",
    "rank": "rank --data {data} --backbones {net}",
    "curve": "curve {net} --data {data} --out {out}",
    "compete": "compete {net} --data {data} --budget 1m --out {out}",
    "compete others": "compete {good} --data {data} --budget 1m --backbones {net} --out {out}",
    "shrink": "shrink {net} --data {data} --latency-ratio 0.5 --out {out}",
    "shrink others": "shrink {good} --data {data} --latency-ratio 0.5 --backbones {net} --out {out}",
    "check": "check {data} --suspects {net}",
    "run": "run {plan} --data {data} --backbone {net} --out {out}",
    "ticket apply": "ticket apply {ticket} --data {data} --out {out}",
    "ticket pack": "ticket pack {pointer} --out {out}",
    "ticket pointer": "ticket apply {pointer} --data {data} --out {out}",
    "adapter apply": "adapter apply {adapter} {net} --data {data} --out {out}",
    "teacher": "finetune {good} --data {data} --set teacher.source={net} --set teacher.logits=0.5 --out {out}",
    "controls": "prune {good} --data {data} --method channels --ratio 0.5 --controls full --out {out}"
    " --set control_backbones=['{net}']",
}  # fmt: skip
WITHOUT_SETS = ("bench", "run", "ticket pack")


@pytest.fixture(scope="module")
def places(tmp_path_factory, dense, exported, folder):
    """Every kind of file that names a network, each naming somebody's code."""
    root = tmp_path_factory.mktemp("evil")
    net = rebuild(dense.manifest.backbone, [], Preprocess(size=16))
    apply_edit(net, "sparsify", weights=["body.stem.0.weight"])
    recipe = {"stage": "prune lottery", "settings": {"strategy": "full", "options": {}, "fit": {}}}
    origin = {"key": "", "data": [], "reached": {}, "versions": {}}
    ticket = pack(net, net.state_dict(), rewind="", recipe=recipe, origin=origin)
    body = {name: tensor for name, tensor in net.state_dict().items() if name.startswith("body.")}
    pointing = ticket.with_pointer({"source": "timm:resnet18"}, body)
    adapter = adapter_file.pack(net, base_state(net), strategy="lora", trained=0, recipe={}, origin=origin)
    files = {
        "ticket": forged.rewritten(ticket.content, TicketFile.kind, backbone=EVIL),
        "pointer": forged.rewritten(pointing.content, TicketFile.kind, pointer=EVIL),
        "adapter": adapter.content,
    }
    for name, content in files.items():
        (root / name).write_bytes(content)
    return {
        **{name: root / name for name in files}, "data": folder, "good": dense.path,
        "net": forged.copied(dense.path, root / "net", backbone=EVIL),
        "exported": forged.copied(exported.path, root / "exported", backbone=EVIL),
        "plan": plans.write(root / "mine.toml", folder),
    }  # fmt: skip


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """Somebody's module, in the working directory and on the path; the file that its import leaves."""
    (tmp_path / f"{NAME}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    yield tmp_path / "ran"
    sys.modules.pop(NAME, None)


def words(way, places, tmp_path):
    line = WAYS[way].format(**places, out=tmp_path / "out").split()
    sets = [text.replace("data.", "") if way == "check" else text for text in SPLITS]
    return [*line, *(() if way in WITHOUT_SETS else sets)]


@pytest.mark.parametrize("way", WAYS)
def test_no_command_runs_what_a_file_names(way, places, canary, call, tmp_path):
    with pytest.raises(ModelFileError, match=f"opening it would import '{NAME}'") as caught:
        call(*words(way, places, tmp_path))
    assert caught.value.code == "E413"
    assert f'`effxfer.trust("{SOURCE}")`' in caught.value.hint
    assert not canary.exists()
    assert NAME not in sys.modules


def test_the_library_is_as_careful(places, canary):
    from effxfer.artifact import Artifact
    from effxfer.stages.runner.source import open_source, read_ticket

    for open_ in (Artifact.load(places["net"]).net, lambda: open_source(read_ticket(places["ticket"]))):
        with pytest.raises(ModelFileError, match="opening it would import"):
            open_()
    assert not canary.exists()


def test_trust_in_python_runs_it(places, canary):
    with ex.trust(SOURCE):
        ex.load(places["net"]).network()
    assert canary.exists()
    with pytest.raises(ModelFileError, match="opening it would import"):
        ex.load(places["net"]).network()


def test_trust_on_the_command_line_runs_it(places, canary, call, tmp_path):
    call(*words("finetune", places, tmp_path), *NO_EPOCHS, "--trust", SOURCE)
    assert canary.exists()


def test_a_process_of_its_own_says_how_to_trust(places, canary, tmp_path):
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "effxfer", *words("finetune", places, tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith("effxfer: E413 ")
    assert f'use --trust {SOURCE}; to trust it permanently, put the line "{SOURCE}" = ' in done.stderr
    assert str(tmp_path / "config/effxfer/trust.toml") in done.stderr
    assert not canary.exists()


def test_a_factory_in_ones_own_pipeline_goes_through_all_its_stages(folder, canary, call, tmp_path):
    stage = "[[stage]]\nname = '{}'\nrun = 'finetune'\nfit = {{epochs = 0, keep = 'last'}}\n"
    head = plans.HEAD.replace("effxfer.net.cifar:resnet20", SOURCE)
    file = plans.write(tmp_path / "mine.toml", folder, head + stage.format("first") + stage.format("second"))
    call("run", file, "--out", tmp_path / "out")
    assert canary.exists()
    shutil.rmtree(tmp_path / "out" / "2-second")
    call("run", file, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "2-second").is_dir()


def test_a_ticket_goes_on_by_the_backbone_that_is_named(places, canary, call, tmp_path):
    with pytest.raises(ModelFileError) as caught:
        call("ticket", "pack", places["pointer"], "--out", tmp_path / "out", "--trust", SOURCE)
    assert caught.value.code == "E404", "it ran, and has other weights than the ticket was found with"
    assert canary.exists()


def test_what_is_trusted_is_the_name_of_a_factory(places, canary, call, tmp_path):
    with pytest.raises(SettingsError, match="'someones_network' is not the name of a factory"):
        call(*words("finetune", places, tmp_path), "--trust", NAME)
