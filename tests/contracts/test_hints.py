"""What a message tells a user to do can be done: its commands, flags and settings are there."""

import ast
import re
import shlex
from collections.abc import Iterator

import pytest
from pydantic import BaseModel
from typer.main import get_command

from effxfer.cli.app import app
from effxfer.cli.command_line import FLAGS, SETTING, to_flags
from effxfer.data.settings import DataSettings
from effxfer.net.settings import BackboneSettings
from effxfer.pipeline.plan import find_pipeline
from effxfer.stages import STAGES
from effxfer.stages.settings.common import Rank
from effxfer.toml import read_toml
from effxfer.transfer import STRATEGIES
from tests.package_source import FILES, complaints, tree
from tests.package_source import PACKAGE as ROOT

GROUP = get_command(app)
OTHERS = ("pip ", "npm ", "apt")  # commands that are not ours
THEIRS = {"--silent", "--ignore-scripts", "--pack-destination"}  # npm's, in a list of words
# Their notes are kept in reports and pages, which show how a command was called.
NOTES = {
    "benchmark/report.py",
    "benchmark/regression.py",
    "data/history.py",
    "stages/prune/ticket_matrix.py",
}  # kept in reports
VARIABLE = "\N{OBJECT REPLACEMENT CHARACTER}"
ROOTS = {
    "": [*(stage.settings for stage in STAGES.values()), Rank],
    "data": [DataSettings],
    "backbone": [BackboneSettings],
    "options": list(STRATEGIES.values()),
}

SPEAKS_FLAGS = ("cli", "runtime", "__main__.py")
LIBRARY = [
    file
    for file in FILES
    if file.relative_to(ROOT).parts[0] not in SPEAKS_FLAGS and str(file.relative_to(ROOT)) not in NOTES
]


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string of a tree but docstrings, with what is filled in as `VARIABLE`."""
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    plain = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found = [part.value if isinstance(part, ast.Constant) else VARIABLE for part in node.values]
            yield node.lineno, "".join(map(str, found))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts | plain:
            yield node.lineno, node.value


def command(words: list[str]) -> tuple[object, list[str]]:
    """The command that words begin with, and the words after it; None if there is none."""
    found, rest = GROUP, list(words)
    while rest and hasattr(found, "commands"):
        if rest[0] not in found.commands:
            return None, rest
        found = found.commands[rest.pop(0)]
    return found, rest


def flags(one: object = None) -> set[str]:
    """The flags of a command; of all of them without one."""
    if one is None:
        return {"--debug", "--help", "--version"}.union(*(flags(inner) for inner in commands(GROUP)))
    return {word for parameter in one.params for word in (*parameter.opts, *parameter.secondary_opts)}


def commands(group: object) -> list[object]:
    """All commands of a group, and of the groups in it."""
    return [
        one for inner in group.commands.values() for one in (commands(inner) if hasattr(inner, "commands") else [inner])
    ]


def is_setting(key: str) -> bool:
    """Whether a dotted key is a setting of a command, or of a stage of a shipped pipeline."""
    first, *rest = key.split(".")
    steps = {str(stage.get("name", stage["run"])) for stage in read_toml(find_pipeline("demo"))["stage"]}
    if first in steps:
        return is_setting(".".join(rest))
    if first in ROOTS and rest:
        return any(_leads(model, rest) for model in ROOTS[first])
    return any(_leads(model, [first, *rest]) for model in ROOTS[""])


def _leads(model: object, path: list[str]) -> bool:
    if not path:
        return True
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return False
    field = model.model_fields.get(path[0])
    return field is not None and _leads(field.annotation, path[1:])


def mistakes(text: str) -> list[str]:
    """What a text names that is not there."""
    if any(word in text for word in OTHERS) or text in THEIRS:
        return []
    wrong = [f"flag {flag}" for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text) if flag not in flags()]
    for words in re.findall(r"`effxfer ([^`]*)`", text):
        wrong += _of_command(shlex.split(words.replace("...", "").replace(VARIABLE, "")))
    keys = [*re.findall(r"--set ([\w.]+)=", text), *named_settings(text)]
    return wrong + [f"setting {key}" for key in keys if VARIABLE not in key and not is_setting(key)]


def named_settings(text: str) -> list[str]:
    """The settings with a value that a message names, as in `data.skip_bad=true`, without those that are flags."""
    keys = [setting.partition("=")[0] for setting in SETTING.findall(text) if "=" in setting]
    return [key for key in keys if key not in FLAGS]


def own_flags(text: str) -> list[str]:
    """Flags of effxfer that a text names outside of a whole command in backticks."""
    if any(word in text for word in OTHERS) or text in THEIRS:
        return []
    return re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", re.sub(r"`effxfer [^`]*`", "", text))


def _of_command(words: list[str]) -> list[str]:
    found, rest = command(words)
    if found is None:
        return [f"command {' '.join(words)}"]
    used = [word.partition("=")[0] for word in rest if word.startswith("--")]
    return [f"{' '.join(words)}: {flag}" for flag in used if flag not in flags(found)]


def test_what_a_message_tells_to_do_can_be_done():
    assert complaints(lambda file: [(line, bad) for line, text in texts(tree(file)) for bad in mistakes(text)]) == {}


def test_the_library_names_settings_and_the_command_line_flags():
    used = complaints(
        lambda file: [(line, flag) for line, text in texts(tree(file)) for flag in own_flags(text)], LIBRARY
    )
    assert used == {}


def test_settings_are_shown_as_flags_that_are_there():
    assert {f"--{name.replace('_', '-')}" for name in FLAGS} <= flags()
    assert to_flags("`out` and `data.root=DIR`, or `storage=a`") == "--out and --set data.root=DIR, or --storage a"
    assert to_flags('use `effxfer.trust("a.b:c")`; see') == "use --trust a.b:c; see"
    assert to_flags("`effxfer check`, `images` and `a b=c`") == "`effxfer check`, `images` and `a b=c`"


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("leave them out (--skip-bad)", ["flag --skip-bad"]),
        ("shipped ones are listed by `effxfer run --list`", ["flag --list", "run --list: --list"]),
        ("see `effxfer status --force`", ["status --force: --force"]),
        ("see `effxfer lists`", ["command lists"]),
        ("use --set data.skip_bat=true", ["setting data.skip_bat"]),
        ("pass `data.skip_bat=true`", ["setting data.skip_bat"]),
        ("pass `data.skip_bad=true`, or `device=cpu`, or `dense.fit.epochs=1`", []),
        ("use --set fit.epochs.x=1", ["setting fit.epochs.x"]),
        ("use --set dense.fit.epochs=1, or --set options.batch=3, or --set data.skip_bad=true", []),
        ("`effxfer ticket apply` with --set mask=none, or `effxfer export --set bundle=true`", []),
        ("pip install --upgrade torch", []),
    ],
)
def test_what_is_not_there_is_found(text, wrong):
    assert mistakes(text) == wrong
