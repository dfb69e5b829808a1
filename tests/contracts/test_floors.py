"""Imports point downwards only, and nothing here runs code that it reads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "effxfer"
FLOORS = [
    {"errors", "pareto", "report", "files", "process", "progress", "signed_safetensors"},
    {"documents", "settings", "toml", "data", "net"},
    {"adapter_file", "artifact", "memory_file", "train"},
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
FILES = sorted(ROOT.rglob("*.py"))


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


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_down(file):
    own = room(file)
    for other in imported(ast.parse(file.read_text())) - {own, "runtime"}:
        if own == "runtime":
            pytest.fail(f"runtime imports {other}")
        if own in LEVEL:
            beside = LEVEL[own] == LEVEL[other] != METHODS or (own, other) in BESIDE
            text = f"{own} (floor {LEVEL[own]}) imports {other} (floor {LEVEL[other]})"
            assert LEVEL[other] < LEVEL[own] or beside, text


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_runs_what_it_reads(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        words = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert name not in {"eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "torch.hub.load"}, name
        assert name != "torch.load" or words.get("weights_only") == "True"
        assert words.get("shell") != "True"


def opened(tree: ast.AST) -> bool:
    return any(isinstance(n, ast.Call) and ast.unparse(n.func).endswith("InferenceSession") for n in ast.walk(tree))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_one_place_opens_sessions_and_nothing_reports_home(file):
    """Files that run alone as a child say so themselves; all others import effxfer, which does."""
    tree = ast.parse(file.read_text())
    alone = not imported(tree) and file.name.endswith("_child.py")
    if alone and "onnxruntime" in ast.unparse(tree):
        assert SILENCE in [ast.unparse(node) for node in tree.body]
    elif opened(tree):
        assert file == ROOT / "runtime/session.py", "open it with runtime.session.open_session"


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
