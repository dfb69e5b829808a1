"""What the Python front door promises: its names, their arguments, and that importing it loads nothing."""

import ast
import inspect
import subprocess
import sys
from doctest import DocTestParser
from importlib.util import find_spec
from pathlib import Path

import pytest
from mypy import api as mypy

import effxfer
import effxfer.runtime
from effxfer import api
from effxfer.cli import adapt
from effxfer.net.settings import BackboneSettings
from effxfer.runtime.model import Model

LAST = "seed device force settings **extra"
STAGES = {
    "compact": "max_error images",
    "compete": "seconds backbones candidates epochs lr latency_penalty",
    "continual": "strategy memory controls epochs lr batch",
    "export": "int8 max_drop max_class_drop opset target with_preprocessing images hf_inputs bundle ort_web runtime",
    "find_ticket": "method sparsity ratio rounds controls epochs lr",
    "finetune": "strategy epochs lr batch seconds size",
    "learning_curve": "labels repeats strategy epochs lr",
    "pretrain": "strategy epochs lr batch seconds size",
    "prune_channels": "ratio macs_ratio latency_ratio latency_ms controls epochs lr batch seconds",
    "prune_to_latency": "ratio ms epochs lr batch seconds",
    "prune_vocabulary": "min_count",
    "qat": "bits epochs lr batch",
    "quantize": "max_drop recipes target calibration",
    "shrink": "latency_ratio latency_ms max_drop backbones precision runtime epochs lr seconds",
    "search_head": "trials seconds workers storage",
}
OTHERS = {
    "Model": "path * threads providers options runtime",
    "apply_adapter": "adapter base * out data merge device force settings **extra",
    "bench": "models * baseline out threads batch max_seconds max_p50_ratio max_mb compare max_regression seed force "
    "settings **extra",
    "check": "data * out suspects device settings **extra",
    "check_cpus": "model data * images emulate arm_root settings **extra",
    "clip": "source * out data text prompts towers epochs lr batch seed device force settings **extra",
    "doctor": "model * threads batch size max_seconds top",
    "embed_classes": "classes encoder * out prompts device",
    "leaderboard": "folders * by out command",
    "list_models": "pattern * library",
    "load": "source * settings **backbone",
    "load_adapter": "adapter",
    "load_data": "source * val_fraction test_fraction max_per_class skip_bad settings **extra",
    "load_ticket": "ticket",
    "pack_ticket": "ticket * out backbone force",
    "preview": "function *args **kwargs",
    "rank": "data backbones * by size out seed device command settings **extra",
    "reconstruct": "pruned * dense batches",
    "run": "pipeline * preset data backbone seconds out seed device force settings command on_stage jobs cluster",
    "status": "pipeline * preset data backbone seconds out seed device force settings check",
    "transfer_report": "models * data target out level max_drop seed force settings **extra",
    "trust": "*factories",
    "train_ticket": f"ticket * out data epochs lr mask backbone {LAST}",
}
NAMES = {**{name: f"source * out data {own} {LAST}" for name, own in STAGES.items()}, **OTHERS}
MODULE = {"train", "example", "loss", "inputs", "labels"}  # keywords for a module, which the overloads name
ELSEWHERE = {"load": set(BackboneSettings.model_fields)}
MARKS = {inspect.Parameter.VAR_KEYWORD: "**", inspect.Parameter.VAR_POSITIONAL: "*"}
HEAVY = {"torch", "timm", "onnx", "onnxruntime", "optuna", "plotly", "pydantic", "numpy"}
PROGRAM = """
import effxfer as ex

dense = ex.finetune("timm:resnet18", data="photos", out="runs/dense", epochs=6)
accuracy: float | None = ex.prune_channels(dense, out="runs/small", latency_ratio=0.5).accuracy
label: str = ex.Model("model.onnx").predict(["cat.jpg"])[0].label
"""


def written(function):
    """The parameters of a function in one line; `*` begins those that are keywords alone."""
    words, parameters = [], inspect.signature(function).parameters.values()
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        words.append(MARKS.get(parameter.kind, "") + parameter.name)
    return " ".join(words)


def test_the_names_are_these():
    assert sorted(effxfer.__all__) == sorted(NAMES)
    assert set(effxfer.__all__) <= set(dir(effxfer))
    assert set(effxfer.__all__) - {"Model"} == {name for name in api.__all__ if name.islower()}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_its_arguments_are_these(name):
    assert written(getattr(effxfer, name)) == NAMES[name]


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"Model"}))
def test_it_is_typed_and_documented(name):
    function = getattr(effxfer, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Parameter.empty
    assert all(one.annotation is not inspect.Parameter.empty for one in signature.parameters.values())
    own = set(NAMES[name].replace("*", "").split()) - set(f"source ticket out data {LAST}".replace("*", "").split())
    assert [one for one in own if f"\n        {one}: " not in function.__doc__] == []


@pytest.mark.parametrize("name", sorted(name for name in api.__all__ if name.islower()))
def test_its_example_calls_it_with_arguments_that_it_takes(name):
    lines = [example.source for example in DocTestParser().get_examples(inspect.getdoc(getattr(api, name)))]
    calls = [node for line in lines for node in ast.walk(ast.parse(line)) if isinstance(node, ast.Call)]
    names = [ast.unparse(call.func).removeprefix("ex.") for call in calls]
    assert name in names
    for function, call in zip(names, calls, strict=True):
        if function == "preview":  # the call that it would make
            function, call.args = ast.unparse(call.args[0]).removeprefix("ex."), call.args[1:]
        if function in api.__all__:
            signature = inspect.signature(getattr(api, function))
            named = {keyword.arg for keyword in call.keywords}
            signature.bind(*call.args, **dict.fromkeys(named))
            assert named <= signature.parameters.keys() | ELSEWHERE.get(function, MODULE), ast.unparse(call)


@pytest.mark.parametrize("name", ["source", "out", "data", *LAST.replace("**", "").split()])
def test_the_arguments_of_all_are_described_once(name):
    assert f"\n    {name} " in api.__doc__


def test_no_room_has_the_name_of_a_function():
    """Importing `effxfer.bench` would otherwise put a module in the function's place."""
    assert [name for name in NAMES if find_spec(f"effxfer.{name}")] == []


def test_the_runtime_is_there_under_both_names():
    assert effxfer.Model is effxfer.runtime.Model is Model


@pytest.mark.parametrize("module", [effxfer, effxfer.runtime])
def test_another_name_is_refused(module):
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'finetun'"):
        module.finetun  # noqa: B018


@pytest.mark.parametrize("code", ["import effxfer", "import effxfer.runtime"])
def test_importing_it_loads_nothing(code):
    test = f"{code}; import sys; sys.exit(', '.join({HEAVY} & set(sys.modules)) or None)"
    process = subprocess.run([sys.executable, "-c", test], check=False, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_what_is_done_is_returned_without_torch(dense):
    code = (
        "import sys, effxfer as ex; result = ex.load(sys.argv[1]); print(result, result.accuracy, result.classes); "
        "sys.exit('torch' if 'torch' in sys.modules else None)"
    )
    process = subprocess.run([sys.executable, "-c", code, dense.path], check=False, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    "name", ["finetune", "continual", "pretrain", "compete", "curve", "shrink", "prune", "qat", "search", "export"]
)
def test_flags_of_a_command_are_arguments_of_its_function(name):
    command = inspect.unwrap(getattr(adapt, name), stop=lambda one: not hasattr(one, "__signature__"))
    call = command.__wrapped__() if hasattr(command, "__wrapped__") else command()
    assert call.func in {getattr(effxfer, one) for one in STAGES}
    assert set(call.keywords) <= inspect.signature(call.func).parameters.keys()


@pytest.mark.slow
def test_a_type_checker_knows_the_names(tmp_path, monkeypatch):
    monkeypatch.setenv("MYPYPATH", str(Path(effxfer.__file__).parents[1]))
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(PROGRAM)
    wrong.write_text("import effxfer as ex\n\nex.finetun()\nex.finetune('timm:resnet18', out='x', epochs='six')\n")
    options = ["--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache")]
    report, errors, status = mypy.run([*options, str(right)])
    assert status == 0, report + errors
    report, _, status = mypy.run([*options, str(wrong)])
    assert status == 1
    assert 'Module has no attribute "finetun"' in report
    assert 'incompatible type "str"; expected "int | None"' in report
