"""Imports point downwards only, and nothing here runs code that it reads."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.package_source import FILES, complaints, tree
from tests.package_source import PACKAGE as ROOT

FLOORS = [
    {"errors", "pareto", "report", "files", "process", "progress", "signed_safetensors"},
    {"documents", "settings", "toml", "data", "net"},
    {"adapter_file", "artifact", "memory_file", "model_source", "train"},
    {"prune", "transfer", "search", "deploy", "benchmark", "transferability"},
    {"stages"},
    {"pipeline", "page"},
    {"api"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
METHODS = 3
BESIDE = {("deploy", "benchmark")}
APART = {"__init__", "__main__", "runtime"}
SILENCE = "os.environ['ORT_DISABLE_TELEMETRY'] = '1'"


def room(file: Path) -> str:
    return file.relative_to(ROOT).with_suffix("").parts[0]


def imported(tree: ast.AST) -> set[str]:
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "effxfer":
            parts = (node.module or "").split(".")[1:]
            rooms |= {parts[0]} if parts else {alias.name for alias in node.names}
    return rooms - {"__version__"}


def test_every_room_has_a_floor():
    assert {room(file) for file in FILES} <= LEVEL.keys() | APART


def wrong_imports(file: Path) -> list[str]:
    own = room(file)
    return [other for other in imported(tree(file)) - {own, "runtime"} if not may_import(own, other)]


def may_import(own: str, other: str) -> bool:
    if own == "runtime" or own not in LEVEL:
        return own != "runtime"
    beside = LEVEL[own] == LEVEL[other] != METHODS or (own, other) in BESIDE
    return LEVEL[other] < LEVEL[own] or beside


def test_imports_point_down():
    assert complaints(wrong_imports) == {}


def test_an_import_that_points_up_is_noticed():
    assert not may_import("data", "stages")
    assert not may_import("prune", "transfer")
    assert not may_import("runtime", "errors")
    assert may_import("stages", "data")


def executed(node: ast.AST) -> Iterator[str]:
    """Calls that run what they read."""
    for call in (inner for inner in ast.walk(node) if isinstance(inner, ast.Call)):
        name = ast.unparse(call.func)
        words = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name in {"eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "torch.hub.load"}:
            yield name
        if (name == "torch.load" and words.get("weights_only") != "True") or words.get("shell") == "True":
            yield ast.unparse(call)


def test_nothing_runs_what_it_reads():
    assert complaints(lambda file: list(executed(tree(file)))) == {}


def test_what_runs_what_it_reads_is_noticed():
    lines = ["eval(x)", "torch.load(f)", "run(x, shell=True)", "torch.load(f, weights_only=True)"]
    assert list(executed(ast.parse("\n".join(lines)))) == ["eval", "torch.load(f)", "run(x, shell=True)"]


def opened(tree: ast.AST) -> bool:
    return any(isinstance(n, ast.Call) and ast.unparse(n.func).endswith("InferenceSession") for n in ast.walk(tree))


def reports_home(file: Path) -> str:
    """Files that run alone as a child say so themselves; all others import effxfer, which does."""
    own = tree(file)
    alone = not imported(own) and file.name.endswith("_child.py")
    if alone and "onnxruntime" in ast.unparse(own):
        return "" if SILENCE in [ast.unparse(node) for node in own.body] else "reports home"
    elsewhere = opened(own) and file != ROOT / "runtime/session.py"
    return "open it with runtime.session.open_session" if elsewhere else ""


def test_one_place_opens_sessions_and_nothing_reports_home():
    assert complaints(reports_home) == {}


def test_importing_effxfer_turns_reports_home_off():
    assert SILENCE in [ast.unparse(node) for node in ast.parse((ROOT / "__init__.py").read_text()).body]


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from effxfer.cli.app import app; "
        "heavy = {'torch', 'timm', 'onnx', 'onnxruntime', 'optuna', 'plotly', 'pydantic', 'numpy'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
