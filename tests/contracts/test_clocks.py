"""Whoever waits, or has a time, counts by a clock that nobody sets back."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2] / "effxfer"
STAMPS = {
    "data/sources/file_hashes.py"
}  # no time is counted there: files carry stamps of the wall clock, and are compared with it
SET_BY_PEOPLE = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}


def reads(tree: ast.AST) -> list[str]:
    """Where a tree reads a clock that people set: by its calls, and by what it imports of `time`."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    read = [f for f in calls if isinstance(f, ast.Attribute) and (_last(f.value), f.attr) in SET_BY_PEOPLE]
    brought = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "time"]
    some = [node for node in brought if {"time", "time_ns"} & {alias.name for alias in node.names}]
    return [f"line {node.lineno}" for node in (*read, *some)]


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_no_time_is_counted_by_the_wall_clock():
    found = {str(file.relative_to(ROOT)): reads(ast.parse(file.read_text())) for file in sorted(ROOT.rglob("*.py"))}
    assert {file: lines for file, lines in found.items() if lines}.keys() == STAMPS


def test_the_wall_clock_would_be_found():
    lines = [
        "import time, datetime",
        "from time import time_ns",
        "time.time()",
        "datetime.datetime.now()",
        "time.monotonic()",
    ]
    text = "\n".join(lines)
    assert reads(ast.parse(text)) == ["line 3", "line 4", "line 2"]
