"""ONNX Runtime reports to nobody: what opens a session writes nothing to anybody's folders and opens no socket."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from effxfer.deploy.export.onnx import export_onnx
from tests.tiny_net import CLASSES, PREPROCESS, images, tiny_net

PLACES = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")
COMMANDS = {
    "runtime": ["-m", "effxfer.runtime", "m.onnx", "p.png"],
    "predict": ["-m", "effxfer", "predict", "m.onnx", "p.png"],
    "doctor": ["-m", "effxfer", "doctor", "m.onnx"],
    "bench": ["-m", "effxfer", "bench", "m.onnx", "--max-seconds", "1"],
    "quantizer": ["-c", "import effxfer.deploy.int8.static, onnxruntime.quantization"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    export_onnx(tiny_net(), folder / "m.onnx", input=PREPROCESS, classes=CLASSES, key="k1")
    Image.fromarray(images(1, size=40)[0]).save(folder / "p.png")
    return folder


def traced(log):
    """Words that note every socket of a command and its children, where the system lets a process be watched."""
    words = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=socket,connect", "-e", "signal=none"]
    able = shutil.which("strace") and subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    return words if able else []


# strace slows a process ten times; the others open their sessions in the same place.
@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=() if one in ("runtime", "predict") else pytest.mark.slow) for one in COMMANDS]
)
def test_nothing_is_written_and_no_socket_is_opened(folder, tmp_path, name):
    places = {place: str(tmp_path / place) for place in PLACES}
    for place in places.values():
        Path(place).mkdir()
    inherited = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    own = {"EFFXFER_CACHE": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    done = subprocess.run(
        [*traced(tmp_path / "sockets"), sys.executable, *COMMANDS[name]],
        cwd=folder, env={**inherited, **places, **own}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [str(file) for place in PLACES for file in (tmp_path / place).rglob("*")] == []
    assert not (tmp_path / "sockets").exists() or (tmp_path / "sockets").read_text() == ""
