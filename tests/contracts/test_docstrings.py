"""Examples in docstrings give what they say; those that call `ex` need networks and photos: `test_api` binds them."""

import ast
import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "effxfer"
FILES = sorted(file for file in ROOT.rglob("*.py") if ">>> " in file.read_text(encoding="utf-8"))


def calls_the_api(source: str) -> bool:
    """Whether an example uses `ex`, the package as its users import it."""
    return any(isinstance(node, ast.Name) and node.id == "ex" for node in ast.walk(ast.parse(source)))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_its_examples_give_what_they_say(file):
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    module = import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    tests = doctest.DocTestFinder(exclude_empty=True).find(module)
    run = [test for test in tests if not any(calls_the_api(example.source) for example in test.examples)]
    runner = doctest.DocTestRunner()
    assert sum(runner.run(test).failed for test in run) == 0, "the output above shows the examples that fail"


def test_there_are_examples():
    assert len(FILES) > 20


def test_an_example_of_the_api_is_not_run():
    assert calls_the_api("ex.load('runs/dense')")
    assert not calls_the_api("export(ext)")
