"""Adapters as files: several on one base, refused on another, merged at the latest in an export."""

import json
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from effxfer.cli.app import app
from effxfer.errors import DataError, GateError, ModelFileError, SettingsError
from effxfer.net.merge import adapters
from effxfer.stages.runner.source import AdapterOnBase, read_adapter
from effxfer.stages.settings.common import ADAPTER
from effxfer.stages.train.adapter_training import difference
from effxfer.train.state import Work
from tests import tiny

FAST = {"options": tiny.PLAIN, "fit": {**tiny.FIT, "epochs": 1, "lr": 0.02}}


def adapt(base, out, data, strategy, **options):
    told = {**FAST, "strategy": strategy, "options": {**tiny.PLAIN, **options}}
    return tiny.stage("finetune", base, out, data, **told)


@pytest.fixture(scope="module")
def lora(dense, data, tmp_path_factory):
    return adapt(dense, tmp_path_factory.mktemp("lora") / "net", data, "lora", merge=False)


@pytest.fixture(scope="module")
def bottlenecks(dense, data, tmp_path_factory):
    return adapt(dense, tmp_path_factory.mktemp("houlsby") / "net", data, "houlsby")


def same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_several_adapters_share_a_base(lora, bottlenecks, dense, data, tmp_path):
    for number, made in enumerate((lora, bottlenecks, adapt(dense, tmp_path / "b", data, "bitfit"))):
        adapter = read_adapter(made.path)
        assert len(adapter.content) < (dense.path / "weights.safetensors").stat().st_size / 5
        source = AdapterOnBase(dense, adapter)
        again = tiny.stage("adapter", source, tmp_path / str(number), data, merge=False)
        assert same(again.net(), made.net())
        assert again.manifest.edits == made.manifest.edits
        assert again.manifest.report["accuracy/test"] == made.manifest.report["accuracy/test"]
        assert again.manifest.parent == {"adapter": adapter.facts.identity, "base": dense.manifest.key}
        assert adapter.facts.origin["reached"]["accuracy/val"] == made.manifest.report["accuracy/val"].value


def test_merged_it_is_the_network_that_merges_after_training(lora, dense, data, tmp_path):
    merged = tiny.stage("adapter", AdapterOnBase(dense, read_adapter(lora.path)), tmp_path / "merged", data)
    direct = adapt(dense, tmp_path / "direct", data, "lora")
    assert same(merged.net(), direct.net())
    assert merged.manifest.edits == direct.manifest.edits == dense.manifest.edits
    for made in (merged, direct):
        assert made.manifest.report["merge/difference"].value <= 1e-5
    assert read_adapter(direct.path).facts.identity == read_adapter(lora.path).facts.identity


@pytest.mark.slow
def test_an_export_merges_what_can_be_merged(lora, bottlenecks, data, tmp_path):
    report = tiny.stage("export", lora, tmp_path / "lora", data, int8=False).manifest.report
    assert report["merge/difference"].value <= 1e-5
    exported = tiny.stage("export", bottlenecks, tmp_path / "houlsby", data, int8=False)
    assert any("houlsby cannot be merged" in note for note in exported.manifest.report.notes)
    assert len(adapters(exported.net())) == 1


def test_another_base_is_refused(lora, bottlenecks, backbone, data, tmp_path):
    adapter = read_adapter(lora.path)
    for base in (backbone, bottlenecks):
        with pytest.raises(ModelFileError) as caught:
            tiny.stage("adapter", AdapterOnBase(base, adapter), tmp_path / "x", data)
        assert caught.value.code == "E411"


def test_other_data_are_refused(lora, dense, folder, tmp_path):
    few = tiny.write_images(tmp_path / "few")
    (few / "red").rename(few / "rot")
    with pytest.raises(DataError, match="the adapter knows"):
        tiny.stage("adapter", AdapterOnBase(dense, read_adapter(lora.path)), tmp_path / "x", tiny.data_of(few))


def test_training_goes_on_with_the_same_adapter_and_refuses_others(lora, data, tmp_path):
    more = adapt(lora, tmp_path / "more", data, "lora", merge=False)
    assert more.manifest.edits == lora.manifest.edits
    assert not same(more.net(), lora.net())
    assert read_adapter(more.path).facts.base == read_adapter(lora.path).facts.base
    with pytest.raises(SettingsError, match="has other adapters than those asked for: lora"):
        adapt(lora, tmp_path / "other", data, "ssf")


@pytest.mark.parametrize("stage", ["prune lottery", "prune gradual", "prune channels", "prune structured"])
def test_pruning_what_is_not_merged_is_refused(lora, bottlenecks, data, tmp_path, stage):
    for made, hint in ((lora, "merge it"), (bottlenecks, "prune first")):
        with pytest.raises(ModelFileError, match="has an adapter that is not merged") as caught:
            tiny.stage(stage, made, tmp_path / "x", data)
        assert (caught.value.code, caught.value.hint.startswith(hint)) == ("E412", True)


def test_pruning_with_an_adapter_that_stays_is_refused(dense, data, tmp_path):
    for options in ({"strategy": "houlsby"}, {"strategy": "lora", "options": {"merge": False}}):
        with pytest.raises(SettingsError, match="puts an adapter on the network that stays"):
            tiny.stage("prune lottery", dense, tmp_path / "x", data, **options)


def test_a_ticket_can_be_found_by_training_low_rank_changes(dense, data, tmp_path):
    told = {**FAST, "strategy": "lora", "rounds": 1}
    net = tiny.stage("prune lottery", dense, tmp_path / "x", data, **told).net()
    assert all(bool((net.get_parameter(n)[~keep] == 0).all()) for n, keep in net.masks().items())
    assert adapters(net) == []


def test_a_flipped_byte_is_found(lora, tmp_path):
    content = bytearray((lora.path / ADAPTER).read_bytes())
    content[-5] ^= 1
    (tmp_path / ADAPTER).write_bytes(content)
    with pytest.raises(ModelFileError, match="was changed since it was written"):
        read_adapter(tmp_path / ADAPTER)


def test_what_holds_no_adapter_is_named(dense, tmp_path):
    with pytest.raises(ModelFileError, match=r"is the result of finetune and holds no adapter\.safetensors"):
        read_adapter(dense.path)
    with pytest.raises(ModelFileError, match="no adapter"):
        read_adapter(tmp_path / "nowhere")
    with pytest.raises(ModelFileError, match="is not an adapter"):
        read_adapter(dense.path / "weights.safetensors")


def test_a_merge_that_changes_something_is_a_failure():
    zeros = torch.zeros(2, 3)
    assert difference(zeros, zeros + 1e-6).rows[0].value == pytest.approx(1e-6)
    with pytest.raises(GateError, match="changed a logit"):
        difference(zeros, zeros + 1e-3)
    with pytest.raises(GateError):
        difference(zeros, zeros * float("nan"))


def test_reading_one_loads_no_torch(lora):
    code = (
        "import sys; from pathlib import Path; from effxfer.stages.runner.source import read_adapter;"
        "from effxfer.adapter_file import describe;"
        "str(describe(read_adapter(Path(sys.argv[1])))); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(lora.path)], check=False).returncode == 0


def test_the_command_line_shows_and_applies(lora, dense, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["effxfer", "adapter"])
    shown = CliRunner().invoke(app, ["adapter", "show", str(lora.path), "--json"])
    assert json.loads(shown.stdout)["strategy"] == "lora"
    assert "trained by lora on" in CliRunner().invoke(app, ["adapter", "show", str(lora.path)]).stdout
    words = ["adapter", "apply", str(lora.path), str(dense.path), "--data", str(folder), "--out", str(tmp_path / "x")]
    done = CliRunner().invoke(app, [*words, "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "merge/difference" in done.stdout


def test_work_without_a_place_has_no_key():
    assert Work(None).key == ""
