import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command

from effxfer.cli.app import app
from effxfer.cli.options import duration, numbers, table
from effxfer.errors import SettingsError
from effxfer.stages import STAGES
from effxfer.toml import parse_value

COMMANDS = get_command(app).commands
FIELDS = {
    **{(command, "budget"): ["seconds"] for command in ("finetune", "pretrain", "compete", "search", "shrink")},
    ("compete", "epochs"): ["fit.epochs"],
    ("compete", "lr"): ["fit.lr"],
    ("finetune", "epochs"): ["fit.epochs"],
    ("finetune", "lr"): ["fit.lr"],
    ("finetune", "batch"): ["options.batch"],
    ("pretrain", "epochs"): ["fit.epochs"],
    ("pretrain", "lr"): ["fit.lr"],
    ("pretrain", "batch"): ["options.batch"],
    ("prune", "epochs"): ["fit.epochs"],
    ("prune", "lr"): ["fit.lr"],
    ("shrink", "epochs"): ["fit.epochs"],
    ("shrink", "lr"): ["fit.lr"],
    ("qat", "epochs"): ["fit.epochs"],
    ("qat", "lr"): ["fit.lr"],
}
KINDS = {
    "prune": [
        "prune lottery",
        "prune gradual",
        "prune channels",
        "prune structured",
        "prune compact",
        "prune vocabulary",
    ]
}
OURS = {
    "backbones",
    "strategies",
    "method",
    "data",
    "out",
    "force",
    "dry_run",
    "as_json",
    "trust",
    "changes",
    "device",
    "compare",
    "max_regression",
}


def flags():
    """Every flag of a single-stage command that sets a field, with its help text."""
    for command in ("finetune", "pretrain", "compete", "shrink", "prune", "qat", "search", "export", "bench"):
        for option in COMMANDS[command].params:
            if option.param_type_name == "option" and option.name not in OURS:
                yield pytest.param(command, option.name, option.help or "", id=f"{command}-{option.name}")


def defaults(command, name):
    """The defaults of the settings that a flag sets, by stage; stages without one are left out."""
    found = []
    for kind in KINDS.get(command, [command]):
        value = STAGES[kind].settings
        for part in FIELDS.get((command, name), [name])[0].split("."):
            if part == "options":
                from effxfer.transfer.base import Strategy as value  # noqa: N813

                continue
            fields = getattr(value if isinstance(value, type) else type(value), "model_fields", {})
            if part not in fields:
                break
            if isinstance(value, type) and fields[part].is_required():
                break
            value = fields[part].default if isinstance(value, type) else getattr(value, part)
        else:
            found.append(value)
    return found


@pytest.mark.parametrize(("command", "name", "text"), list(flags()))
def test_help_agrees_with_the_settings(command, name, text):
    real = list(dict.fromkeys(defaults(command, name)))
    assert real, f"--{name} sets nothing"
    told = re.search(r"\[default: (.*)\]", text)
    if told is None:
        assert real in ([None], [False], [""]), f"--{name} does not tell its default {real}"
        return
    words = told[1].split(", ")
    if isinstance(real[0], bool):
        assert words == [f"--{name}" if real[0] else f"--no-{name}"]
    else:
        assert [parse_value(word) for word in words] == real


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_says_what_it_does(name):
    assert COMMANDS[name].help
    assert all(option.help for option in COMMANDS[name].params if option.param_type_name == "option")


def test_flags_and_texts_make_one_table():
    made = table(["fit.ema=0.99", "options.augment.crop=none", "taps=[['out']]"], fit__epochs=3, seed=None)
    assert made == {"fit": {"epochs": 3, "ema": 0.99}, "options": {"augment": {"crop": "none"}}, "taps": [["out"]]}


def test_a_text_wins_over_its_flag():
    assert table(["fit.epochs=4"], fit__epochs=3) == {"fit": {"epochs": 4}}


@pytest.mark.parametrize("text", ["epochs", "", "fit.epochs"])
def test_a_text_without_a_value_is_refused(text):
    with pytest.raises(SettingsError, match="is not KEY=VALUE"):
        table([text])


def test_a_path_through_a_value_is_refused():
    with pytest.raises(SettingsError, match="epochs is 3, not a table"):
        table(["fit.epochs=3", "fit.epochs.more=1"])


@settings(max_examples=50, deadline=None)
@given(st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False))
def test_values_keep_their_type(value):
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    made = table([f"x={text}"])["x"]
    assert (type(made), made) == (type(value), value) or abs(value) >= 2**63


def test_defaults_of_flags_are_none_so_that_the_settings_decide():
    for command in ("finetune", "pretrain", "compete", "shrink", "prune", "qat", "search", "export", "bench"):
        for option in COMMANDS[command].params:
            if option.param_type_name == "option" and option.name not in OURS:
                assert option.default is None, option.name


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("10m", 600), ("1h30m", 5400), (" 1h2m3s ", 3723)]
)
def test_times_are_read(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "-5m", "5d", "m", "1m1h", "nan", "inf", "1e3"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(SettingsError, match="not a time"):
        duration(text)


@pytest.mark.parametrize(("text", "expected"), [("1,5,20", [1, 5, 20]), ("1, 5, all", [1, 5]), ("all", []), ("7", [7])])
def test_numbers_are_read_and_all_is_understood(text, expected):
    assert numbers("labels", text, last="all") == expected


@pytest.mark.parametrize("text", ["", "1,,2", "1,all,5", "few", "1.5"])
def test_what_are_no_numbers_is_refused(text):
    with pytest.raises(SettingsError, match="--labels takes comma-separated whole numbers"):
        numbers("labels", text, last="all")


def test_a_last_word_is_understood_only_where_it_means_something():
    with pytest.raises(SettingsError, match="--batch takes comma-separated whole numbers"):
        numbers("batch", "1,all")
