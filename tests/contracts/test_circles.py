"""No import circle, no crowded folder, and no file name twice in one room."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.package_source import FILES, tree
from tests.package_source import PACKAGE as ROOT

MOST_FILES = 14  # beside __init__.py: more are a list and no longer a room
FOLDERS = sorted({file.parent for file in FILES})


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in FILES}


def only_typed(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(node: ast.AST) -> set[str]:
    """The package's modules that a node imports, at the top or within a function; not what only type checks read."""
    if only_typed(node):
        return set()
    names = set()
    if isinstance(node, ast.Import):
        names = {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
        below = {f"{node.module}.{alias.name}" for alias in node.names}
        names = below if below <= MODULES.keys() else (below & MODULES.keys()) | {node.module}
    for child in ast.iter_child_nodes(node):
        names |= imports(child)
    return names & MODULES.keys()


def components(graph: dict[str, set[str]]) -> list[set[str]]:
    """The sets of modules that reach one another (Kosaraju's algorithm, by repeated reachability)."""
    reach = {name: reachable(graph, name) for name in graph}
    loops = {frozenset({other for other in reach[name] if name in reach[other]}) for name in graph}
    return [set(loop) for loop in loops if loop]


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += graph[name]
    return reached


def test_no_import_circle():
    graph = {name: imports(tree(file)) - {name} for name, file in MODULES.items()}
    assert [sorted(circle) for circle in components(graph)] == []


def test_a_circle_is_seen():
    assert components({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT.parent)))
def test_a_folder_has_few_files(folder):
    files = [file.name for file in folder.glob("*.py") if file.name != "__init__.py"]
    assert len(files) <= MOST_FILES, sorted(files)


def test_no_file_name_twice_in_a_room():
    names = Counter(
        (file.relative_to(ROOT).parts[0], file.name)
        for file in FILES
        if file.parent != ROOT and file.name not in {"__init__.py", "__main__.py"}
    )
    assert [f"{room}: {name}" for (room, name), times in names.items() if times > 1] == []
