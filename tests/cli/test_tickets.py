import json

import pytest
from typer.main import get_command

from effxfer.artifact import Artifact
from effxfer.cli.app import app
from effxfer.cli.options import table
from effxfer.errors import ModelFileError, SettingsError
from effxfer.stages.runner.source import read_ticket
from effxfer.stages.settings.common import TICKET
from effxfer.stages.settings.ticket_settings import Ticket
from effxfer.toml import parse_value
from tests import tiny

COMMANDS = get_command(app).commands["ticket"].commands
FLAGS = {
    "apply": (Ticket, {"epochs": ["fit", "epochs"], "lr": ["fit", "lr"], "mask": ["mask"], "seed": ["seed"]}),
}  # fmt: skip
OURS = {"ticket", "tickets", "out", "data", "backbone", "changes", "device", "force", "dry_run", "as_json", "trust"}


@pytest.fixture(scope="module")
def found(tmp_path_factory, dense, data):
    more = {"sparsity": 0.8, "rounds": 1, "fit": {**tiny.FIT, "epochs": 0}}
    return tiny.stage("prune lottery", dense, tmp_path_factory.mktemp("ticket") / "found", data, **more)


def test_every_command_says_what_it_does():
    assert sorted(COMMANDS) == ["apply", "pack", "show"]
    for command in COMMANDS.values():
        assert command.help
        assert all(option.help for option in command.params if option.param_type_name == "option")


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_flags_are_settings_and_leave_the_defaults_to_them(name):
    cls, known = FLAGS[name]
    options = {one.name: one for one in COMMANDS[name].params if one.name not in OURS}
    assert options.keys() == known.keys()
    for flag, path in known.items():
        assert options[flag].default is None
        assert path[0] in cls.model_fields
        words = (options[flag].help or "").partition("[default: ")[2].rstrip("]")
        real = cls.model_fields[path[0]].default if len(path) == 1 else ""
        assert (words in {"--controls"}) if flag == "controls" else (words == "" or parse_value(words) == real)


def test_show_tells_a_person_and_a_program(call, found):
    said = call("ticket", "show", found.path)
    assert "sparsity/prunable          80 % of prunable weights" in said
    assert said.splitlines()[-1] == f"effxfer ticket show {found.path}"
    told = json.loads(call("ticket", "show", found.path / TICKET, "--json"))
    facts = read_ticket(found.path).facts
    assert (told["digest"], told["kept"], told["recipe"]) == (facts.identity, facts.kept, facts.recipe)


def test_apply_trains_and_ends_in_its_command(call, found, folder, tmp_path):
    words = ["ticket", "apply", found.path, "--data", folder, "--out", tmp_path / "out", "--seed", 3]
    shown = json.loads(call(*words, "--epochs", 0, "--dry-run"))
    assert (shown["settings"]["fit"], shown["settings"]["seed"], shown["done"]) == ({"epochs": 0}, 3, False)
    assert not list(tmp_path.iterdir())
    said = call(*words, "--epochs", 0).splitlines()
    assert said[0] == f"model: {tmp_path / 'out'}"
    assert said[-1].startswith("effxfer ticket apply ")
    made = Artifact.load(tmp_path / "out")
    assert made.manifest.key == shown["key"]
    assert made.manifest.stage == "ticket"
    with pytest.raises(SettingsError, match="no data given"):
        call("ticket", "apply", found.path, "--out", tmp_path / "other")


def test_pack_leaves_weights_out_and_puts_them_back(call, found, dense, tmp_path):
    lean, whole = tmp_path / "lean.safetensors", tmp_path / "whole.safetensors"
    said = call("ticket", "pack", found.path, "--backbone", dense.path, "--out", lean)
    assert f"those of {dense.path}" in said
    call("ticket", "pack", lean, "--out", whole)
    assert whole.read_bytes() == (found.path / TICKET).read_bytes()
    assert lean.stat().st_size < whole.stat().st_size / 5
    shown = json.loads(call("ticket", "apply", lean, "--backbone", dense.path, "--out", tmp_path / "x", "--dry-run",
                            "--data", dense.manifest.data[0]["settings"]["source"]))  # fmt: skip
    assert shown["done"] is False
    with pytest.raises(ModelFileError, match="has other weights than the ticket's rewind point"):
        call("ticket", "pack", found.path, "--backbone", "resnet20-cifar10", "--out", tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_a_flag_and_a_text_make_one_table_of_changes():
    assert table(["fit.ema=0.9"], fit__epochs=3) == {"fit": {"epochs": 3, "ema": 0.9}}
