"""Names say what a thing is: vague words may only become fewer, and no function is named by a bare participle."""

import ast
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2] / "effxfer"
VAGUE = frozenset(
    """
    about again alone aim asked beside come done else elsewhere found fresh given gone held here kept known later left
    lost made many more most much one other others own put rest same says seen settled several some spare stays taken
    then there thing things told took wanted what where which whole whose why
    """.split()  # noqa: SIM905 (a list of fifty words is read as a text)
)
LIMIT = 11
# Words that alone name no function. Participles that are also verbs, such as `cut` and `set`, are not among them.
ADVERBS = frozenset(
    """
    about above across after afterwards again against ago alone along already always among anyway apart around
    aside at away back before behind below beneath beside between beyond by down during elsewhere ever for forth
    from hence here in inside instead into later near next now of off on once only onto out outside over per since
    so soon still then there through throughout together towards under until up upon upright when where whole with
    within without
    """.split()  # noqa: SIM905
)
IRREGULAR = frozenset(
    """
    begun bent bought broken brought built caught chosen done drawn driven fallen felt forgotten found frozen
    given gone grown held hidden kept known laid left lent lost made meant met overlaid paid proven rebuilt seen
    sent shown spent stolen taken taught thrown told torn understood won worn written
    """.split()  # noqa: SIM905
)
ENDINGS = ("ed", "ing", "ly")
PLAIN = frozenset(
    """
    apply bed embed exceed feed finding imply multiply need padding proceed ranking reply rounding seed speed
    string supply timing training warning
    """.split()  # noqa: SIM905 (verbs and nouns that end like a participle or an adverb)
)
ALLOWED = {
    "of": "`Result.of(artifact)`: a constructor that reads with its argument",
    "once": "`work.once(name, compute)`: reads with its argument",
    "structured": "the stage `prune structured`; a stage's function has the stage's name",
}


@cache
def trees() -> dict[str, ast.Module]:
    return {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in sorted(ROOT.rglob("*.py"))}


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
    for file, tree in trees().items():
        counts[file] = sum(name in VAGUE for name in bound(tree))
    return +counts


def test_vague_names_only_become_fewer():
    count = sum(vague().values())
    assert count <= LIMIT, f"{count} names of the vague list; the last change had {LIMIT}: name what the thing is"


def is_bare(name: str) -> bool:
    """Whether a name has neither a verb nor a noun: only participles, adverbs and prepositions."""
    words = [word for word in name.strip("_").split("_") if word]
    return bool(words) and all(
        word not in PLAIN and (word in ADVERBS | IRREGULAR or (len(word) > 4 and word.endswith(ENDINGS)))
        for word in words
    )


def is_state(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function reads as a state: a property, or what `with` enters (`with locked(folder)`)."""
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list}
    returns = ast.unparse(function.returns) if function.returns else ""
    return bool(decorators & {"property", "cached_property", "contextmanager"}) or "ContextManager" in returns


def bare_functions(tree: ast.AST) -> list[str]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [f.name for f in functions if is_bare(f.name) and not is_state(f) and f.name not in ALLOWED]


def test_no_function_is_named_by_a_bare_participle_or_adverb():
    names = [f"{name} in {file}" for file, tree in trees().items() for name in bare_functions(tree)]
    assert names == [], "name a function by a verb, or by what it returns"


def test_a_bare_participle_is_recognised():
    text = """
def merged(): ...
def seen_by(): ...
def _within(): ...
def newly(): ...
def merged_weights(): ...
def apply(): ...
def training(): ...
def is_needed(): ...
@contextmanager
def locked(): ...
@property
def timed(self): ...
def averaged() -> AbstractContextManager[None]: ...
"""
    assert bare_functions(ast.parse(text)) == ["merged", "seen_by", "_within", "newly"]


def test_an_allowed_name_is_in_use():
    assert set(ALLOWED) <= {name for tree in trees().values() for name in bound(tree)}


def test_a_vague_name_is_counted():
    text = "found = [told for told in x]\ndef gone(why): self._left = 1"
    assert sorted(bound(ast.parse(text))) == ["found", "gone", "left", "why"]


if __name__ == "__main__":
    for name, hits in vague().most_common():
        print(hits, name)
