"""Whoever waits, or has a time, counts by a clock that nobody sets back."""

import ast

from tests.package_source import complaints, tree

STAMPS = {
    "data/sources/file_hashes.py"
}  # no time is counted there: files carry stamps of the wall clock, and are compared with it
SET_BY_PEOPLE = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}


def reads(parsed: ast.AST) -> list[str]:
    """Where a tree reads a clock that people set: by its calls, and by what it imports of `time`."""
    calls = [node.func for node in ast.walk(parsed) if isinstance(node, ast.Call)]
    read = [f for f in calls if isinstance(f, ast.Attribute) and (_last(f.value), f.attr) in SET_BY_PEOPLE]
    brought = [node for node in ast.walk(parsed) if isinstance(node, ast.ImportFrom) and node.module == "time"]
    some = [node for node in brought if {"time", "time_ns"} & {alias.name for alias in node.names}]
    return [f"line {node.lineno}" for node in (*read, *some)]


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_no_time_is_counted_by_the_wall_clock():
    assert complaints(lambda file: reads(tree(file))).keys() == STAMPS


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
