"""Whoever catches everything says why."""

import ast

import pytest

from tests.package_source import complaints

BROAD = {"Exception", "BaseException"}


def unexplained(source: str) -> list[int]:
    """Lines that catch every exception and give no reason in a comment."""
    caught = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ExceptHandler))
    broad = (
        node.lineno
        for node in caught
        if node.type is None or BROAD & {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
    )
    lines = source.splitlines()
    return [line for line in broad if "  # " not in lines[line - 1]]


def test_a_handler_names_its_exceptions_or_the_reason_why_it_takes_all():
    assert complaints(lambda file: unexplained(file.read_text())) == {}


@pytest.mark.parametrize("handler", ["except:", "except Exception as error:", "except (OSError, BaseException):"])
def test_a_handler_without_a_reason_is_noticed(handler):
    assert unexplained(f"try:\n    pass\n{handler}\n    raise") == [3]
    assert unexplained(f"try:\n    pass\n{handler}  # foreign code\n    raise") == []
