"""Names say what a thing is: vague words may only become fewer, and no function is named by a bare participle."""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2] / "effxfer"
VAGUE = frozenset(
    """
    about again alone aim asked beside come done else elsewhere found fresh given gone held here kept known later left
    lost made many more most much one other others own put rest same says seen settled several some spare stays taken
    then there thing things told took wanted what where which whole whose why
    """.split()  # noqa: SIM905 (a list of fifty words is read as a text)
)
LIMIT = 64


def bound(tree: ast.AST) -> list[str]:
    """Every name that a module binds outside of comprehensions: variables, arguments, functions, classes, fields."""
    short = {id(n) for c in ast.walk(tree) if isinstance(c, ast.comprehension) for n in ast.walk(c.target)}
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in short:
            names.append(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.append(node.attr)
        elif isinstance(node, ast.arg):
            names.append(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.alias) and node.asname:
            names.append(node.asname)
    return [name.strip("_").lower() for name in names]


def vague() -> Counter[str]:
    counts: Counter[str] = Counter()
    for file in sorted(ROOT.rglob("*.py")):
        hits = sum(name in VAGUE for name in bound(ast.parse(file.read_text())))
        counts[str(file.relative_to(ROOT))] = hits
    return +counts


def test_vague_names_only_become_fewer():
    count = sum(vague().values())
    assert count <= LIMIT, f"{count} names of the vague list; the last change had {LIMIT}: name what the thing is"


def test_a_vague_name_is_counted():
    text = "found = [told for told in x]\ndef gone(why): self._left = 1"
    assert sorted(bound(ast.parse(text))) == ["found", "gone", "left", "why"]


if __name__ == "__main__":
    for name, hits in vague().most_common():
        print(hits, name)
