"""The page of error codes: cause and cure from `codes.toml`, exit code and modules from the package."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "effxfer"
CODE = re.compile(r"\b[EW]\d{3}\b")
EXIT = {"2": "2 (settings)", "3": "3 (data)", "4": "4 (model file)", "6": "6 (quality gate)"}
INTRODUCTION = """# Error codes

Every message with a code is listed here. `E` is an error, `W` a warning or a note that does not stop a command.
`--debug` shows the traceback of an error.
"""


def entries() -> dict[str, dict[str, str]]:
    """Read cause and cure by code."""
    table: dict[str, dict[str, str]] = tomllib.loads((HERE / "codes.toml").read_text(encoding="utf-8"))
    return table


@cache
def reported() -> dict[str, list[str]]:
    """Map every code in a string of the package, docstrings aside, to the modules that hold it."""
    modules: dict[str, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE.parent).as_posix()
        for code in sorted(_codes(ast.parse(file.read_text(encoding="utf-8")))):
            modules.setdefault(code, []).append(name)
    return modules


def page() -> str:
    """Write the page in Markdown."""
    modules = reported()
    return "\n".join([INTRODUCTION, *(_entry(code, text, modules[code]) for code, text in entries().items())])


def _codes(tree: ast.AST) -> set[str]:
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    return {code for text in texts for code in CODE.findall(text)}


def _entry(code: str, text: dict[str, str], modules: list[str]) -> str:
    ends = f"Exit code {EXIT[code[1]]}. " if code.startswith("E") else ""
    places = ", ".join(f"`{module}`" for module in modules)
    return f"## {code}\n\n{text['cause']}\n\n**Cure.** {text['cure']}\n\n{ends}Reported by {places}.\n"
