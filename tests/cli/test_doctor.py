"""`doctor` with and without a model."""

import json
import subprocess
import sys

import onnx
import pytest

from effxfer.errors import ModelFileError, SettingsError
from tests.deploy.graphs import plain


def test_a_model_is_examined(call, tmp_path):
    file = plain(16).save(tmp_path / "model.onnx")
    told = call("doctor", file, "--max-seconds", 0.2, "--top", 2)
    assert "Time by operator" in told
    assert "The 2 slowest kernels" in told
    assert told.splitlines()[-1].startswith("effxfer doctor ")


def test_a_directory_and_json_will_do(call, tmp_path):
    plain(16).save(tmp_path / "model.onnx")
    told = json.loads(call("doctor", tmp_path, "--max-seconds", 0.2, "--batch", 2, "--json"))
    rows = {row["name"]: row["value"] for row in told["report"]["rows"]}
    assert {"p50", "kernels", "macs", "share/compute", "share/convert", "share/move", "findings"} == rows.keys()
    assert rows["macs"] == pytest.approx(2 * (64 * 16 * 27 + 2 * 64 * 16 * 144 + 80) / 1e6)


def test_a_file_that_another_tool_made_of_an_exported_one_is_examined_with_a_note(call, exported, tmp_path):
    model = onnx.load(exported.path / "model.onnx")
    model.producer_name = "another tool"
    onnx.save(model, tmp_path / "m.onnx")
    told = call("doctor", tmp_path / "m.onnx", "--max-seconds", 0.2)
    assert "m.onnx was changed since it was written: SHA-256 is" in told
    assert "it was measured as a file of unknown origin" in told


def test_a_damaged_exported_file_is_refused_as_changed(call, exported, tmp_path):
    content = (exported.path / "model.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(content[:3000] + content[-2000:])
    with pytest.raises(ModelFileError, match="was changed since it was written") as caught:
        call("doctor", tmp_path / "m.onnx")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("content", [None, b"", b"no model", b"\x08\x0a" * 50])
def test_a_broken_file_ends_in_4(call, tmp_path, content):
    if content is not None:
        (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        call("doctor", tmp_path / "m.onnx")
    assert caught.value.exit_code == 4


def test_an_installation_whose_numpy_cannot_be_imported_is_checked():
    code = """
import sys
sys.modules["numpy"] = None
sys.argv = ["effxfer", "doctor"]
from effxfer.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Environment" in done.stdout


def test_settings_of_a_model_need_one(call):
    with pytest.raises(SettingsError, match="--max-seconds needs a MODEL argument"):
        call("doctor", "--max-seconds", 3)
