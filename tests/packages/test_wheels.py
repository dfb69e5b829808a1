"""Both distributions are built, and the small one runs where nothing but its dependencies is installed."""

import json
import shutil
import subprocess
import sys
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

import effxfer
from effxfer.deploy.export.onnx import export_onnx
from effxfer.runtime.__main__ import main
from tests.tiny_text import text_net

HOUSE = Path(__file__).parents[2]
NEEDED = {"numpy", "onnxruntime", "pillow"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what is built: the build leaves nothing in the checkout."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("effxfer", "models", "packages", "pipelines"):
        shutil.copytree(HOUSE / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(HOUSE / name, copy)
    return copy


def build(folder: Path, out: Path, *kinds: str) -> Path:
    command = [sys.executable, "-P", "-m", "build", "--no-isolation", *kinds, "--outdir", str(out), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    """The wheel of the runtime, made from its own source distribution."""
    return build(source / "packages" / "runtime", tmp_path_factory.mktemp("runtime"))


def metadata(wheel: Path):
    with ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def closure(names: set[str]) -> set[str]:
    """Distributions and all that they require without an extra."""
    found, open_ = set(), set(names)
    while open_:
        name = open_.pop()
        found.add(name)
        needed = [Requirement(text) for text in distribution(name).requires or ()]
        open_ |= {one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})} - found
    return found


def link(names: set[str], folder: Path) -> None:
    """Put installed distributions into another environment by links, without a download."""
    for name in names:
        tops = {file.parts[0] for file in distribution(name).files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(distribution(name).locate_file(top)))


def environment(wheel: Path, venv: Path, names: set[str]) -> Path:
    """Return the interpreter of an environment that holds the runtime's wheel and these distributions."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    interpreter = venv / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    link(names, next((venv / "lib").glob("python*")) / "site-packages")
    return interpreter


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """An environment with what the runtime's dependencies require."""
    return environment(wheel, tmp_path_factory.mktemp("environment") / "venv", closure(NEEDED))


def run(python: Path, *words: object) -> str:
    command = [str(python), "-I", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_runtime_needs_three_packages_and_has_the_version_of_the_whole(wheel):
    about = metadata(wheel)
    assert about["Name"] == "effxfer-runtime"
    assert about["Version"] == effxfer.__version__
    requirements = [Requirement(text) for text in about.get_all("Requires-Dist")]
    assert {requirement.name for requirement in requirements if requirement.marker is None} == NEEDED
    extras = {"openvino": 'extra == "openvino"', "tokenizers": 'extra == "text"'}
    assert {r.name: str(r.marker) for r in requirements if r.marker} == extras


def test_the_runtime_answers_in_a_new_environment_as_it_does_here(python, exported, folder, capsys):
    model, image = exported.path / "model.onnx", sorted(folder.rglob("*.jpg"))[0]
    answer = json.loads(run(python, "-m", "effxfer_runtime", model, image))
    assert main([str(model), str(image)]) == 0
    assert answer == json.loads(capsys.readouterr().out)
    assert answer["label"] in exported.manifest.classes


def test_nothing_else_is_importable_there(python):
    absent = "import importlib.util as u; print(*(n for n in ('effxfer', 'torch', 'onnx', 'rich') if u.find_spec(n)))"
    assert run(python, "-c", absent).split() == []


def test_texts_need_onnxruntime_numpy_and_the_bare_wheel_of_tokenizers(wheel, tmp_path, capsys):
    """As after `pip install --no-deps tokenizers`: without pillow, huggingface-hub and transformers."""
    net, file = text_net(), tmp_path / "model" / "model.onnx"
    file.parent.mkdir()
    export_onnx(net, file, input=net.input, output=net.output, key="k")
    interpreter = environment(wheel, tmp_path / "venv", closure({"numpy", "onnxruntime"}) | {"tokenizers"})
    words = [file, "--text", "the cat sat", "--text", "it was great . [SEP] " * 20]
    answer = run(interpreter, "-m", "effxfer_runtime", *words)
    assert main(list(map(str, words))) == 0
    assert answer == capsys.readouterr().out
    rows = [json.loads(line) for line in answer.splitlines()]
    assert [row.get("cut", False) for row in rows] == [False, True]
    assert {row["label"] for row in rows} <= set(net.output.classes)
    absent = "import importlib.util as u; print(*(n for n in ('PIL', 'huggingface_hub', 'torch') if u.find_spec(n)))"
    assert run(interpreter, "-c", absent).split() == []


def test_the_wheel_of_the_whole_holds_pipelines_and_models_and_the_one_version(source, tmp_path):
    wheel = build(source, tmp_path, "--wheel")
    names = set(ZipFile(wheel).namelist())
    assert metadata(wheel)["Version"] == effxfer.__version__
    assert {"effxfer/py.typed", "effxfer/page/page.html", "effxfer/_bundled/pipelines/demo.toml"} <= names
    assert {f"effxfer/deploy/bundle/web/{name}" for name in ("tokens.js", "texts.js", "encode.mjs")} <= names
    assert "effxfer/_bundled/models/resnet20-cifar10/weights.safetensors" in names
    assert not [name for name in names if name.startswith("tests/")]
