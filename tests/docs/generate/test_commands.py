"""The command reference holds what `--help` holds."""

import re

from typer.main import get_command

from docs.generate.commands import commands, page
from effxfer.cli.app import app


def test_every_command_and_every_flag_is_on_the_page():
    sections = dict(re.findall(r"^## (effxfer .*?)\n(.*?)(?=^## |\Z)", page(), flags=re.MULTILINE | re.DOTALL))
    for name, command in commands(get_command(app)):
        flags = [flag for parameter in command.params for flag in parameter.opts if flag.startswith("--")]
        assert [flag for flag in flags if f"`{flag}" not in sections[name]] == []
        assert command.help in sections[name]


def test_inner_groups_are_walked():
    names = [name for name, _ in commands(get_command(app))]
    assert {"effxfer ticket apply", "effxfer adapter show"} <= set(names)
    assert len(names) == len(set(names))
