"""The command reference, from the Typer application."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from effxfer.cli.app import app

INTRODUCTION = """# Commands

Generated from `effxfer --help`. Any other setting of a command is changed by `--set KEY=VALUE`; the
[settings](settings.md) list the keys.
"""


def page() -> str:
    """Write the page in Markdown."""
    return "\n".join([INTRODUCTION, *(_section(name, command) for name, command in commands(get_command(app)))])


def commands(group: Any, prefix: str = "effxfer") -> Iterator[tuple[str, Any]]:
    """Walk over the commands of a group, those of inner groups included, with their full names."""
    for name, command in group.commands.items():
        full = f"{prefix} {name}"
        if hasattr(command, "commands"):
            yield from commands(command, full)
        else:
            yield full, command


def _section(name: str, command: Any) -> str:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    usage = " ".join([name, *(_metavar(one) for one in arguments), "[OPTIONS]"])
    items = [_item(f"{_metavar(one)}", one) for one in arguments] + [_item(_flags(one), one) for one in options]
    return "\n".join([f"## {name}\n", f"{command.help}\n", f"```text\n{usage}\n```\n", *items, ""])


def _metavar(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper() + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _flags(option: Any) -> str:
    words = ", ".join([*option.opts, *option.secondary_opts])
    return words if option.is_flag else f"{words} {(option.metavar or option.name).upper()}"


def _item(head: str, parameter: Any) -> str:
    default = parameter.default
    shown = default not in (None, "", False, ()) and not parameter.required and not callable(default)
    text = (parameter.help or "").replace("  [default:", " [default:")
    return f"- `{head}`: {text}" + (f" Default: `{default}`." if shown else "")
