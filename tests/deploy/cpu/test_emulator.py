import shutil
import subprocess
import sys

import numpy as np
import pytest

from effxfer.data.settings import DataSettings
from effxfer.deploy.cpu import emulator
from effxfer.deploy.cpu.emulator import CPUS, check_on_cpus, emulated_logits, emulator_command
from effxfer.deploy.export.logits import onnx_logits
from effxfer.deploy.int8.builder import feeds_of
from effxfer.errors import ModelFileError, ResourceError, SettingsError

X86 = shutil.which("qemu-x86_64") is not None


@pytest.fixture
def native(monkeypatch):
    """A CPU that is this one: what the emulator does around QEMU, without QEMU."""
    start = [sys.executable]
    monkeypatch.setattr(emulator, "emulator_command", lambda name, root: (start, {}))


def test_an_unknown_cpu_is_refused():
    with pytest.raises(SettingsError, match=r"no emulated CPU 'avx' .did you mean 'avx2'"):
        emulator_command("avx", None)


def test_without_qemu_the_error_names_its_package(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ResourceError, match="no program qemu-x86_64 to emulate avx2") as caught:
        emulator_command("avx2", None)
    assert caught.value.hint == "apt-get install qemu-user"


def test_arm_needs_a_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    for root in (None, tmp_path):
        with pytest.raises(SettingsError, match="arm64 needs a folder with an ARM Python"):
            emulator_command("arm64", root)
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/python3").touch()
    words, _ = emulator_command("arm64", tmp_path)
    assert words[:3] == ["qemu-aarch64", "-cpu", CPUS["arm64"].model]
    assert words[-1] == str(tmp_path / "usr/bin/python3")
    assert f"PYTHONPATH={tmp_path / 'site'}" in words


def test_x86_runs_this_python(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    words, variables = emulator_command("sse", None)
    assert words[:3] == ["qemu-x86_64", "-cpu", "Nehalem"]
    assert variables["PYTHONPATH"]


def test_the_child_gives_the_files_logits(exported, pixels, native):
    feeds = feeds_of(exported, pixels).subset(10)
    got = emulated_logits(exported, feeds, "avx2")
    np.testing.assert_allclose(got, onnx_logits(exported, feeds.rows, threads=1), atol=1e-5)


def test_a_file_that_does_not_run_is_an_error(exported, pixels, native, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="does not run on an emulated avx2"):
        emulated_logits(broken, feeds_of(exported, pixels).subset(2), "avx2")


def test_it_does_not_wait_for_ever(exported, pixels, native, monkeypatch):
    def late(*_, timeout, **__):
        raise subprocess.TimeoutExpired("qemu", timeout)

    monkeypatch.setattr(subprocess, "run", late)
    with pytest.raises(ResourceError, match="took over 5 s on an emulated sse"):
        emulated_logits(exported, feeds_of(exported, pixels).subset(2), "sse", seconds=5)


def test_a_model_is_examined(exported, native):
    data = DataSettings(source="digits", max_per_class=5)
    report = check_on_cpus(exported, data, images=6, names=["avx2"])
    standing, answers = report.tables[-2:]
    assert [row["CPUs"] for row in standing.rows] == ["arm64", "x86-avx2", "x86-vnni", "x86 without AVX2"]
    assert [(row["CPU"], row["top-1 as here"]) for row in answers.rows] == [("this CPU", "6 of 6"), ("avx2", "6 of 6")]
    assert report["saturation/model"].value == 0
    with pytest.raises(ModelFileError, match="no model file"):
        check_on_cpus(exported.parent / "absent.onnx", data)
    assert len(check_on_cpus(exported.parent, data, images=2).tables) == 2


@pytest.mark.slow
@pytest.mark.skipif(not X86, reason="needs qemu-user")
def test_the_emulated_cpus_have_their_own_arithmetic(tmp_path):
    """A planted layer saturates on the emulated AVX2 and not on SSE: QEMU runs the kernels of the CPU that it plays."""
    from effxfer.deploy.cpu.saturation import pair_sums
    from effxfer.deploy.int8.static import Feeds
    from effxfer.runtime.images.preprocess import Preprocess
    from tests.deploy.planted import planted

    class Codes(Feeds):
        def feed(self, start, count):
            return {self.name: self.rows[start : start + count]}

    weights = np.full((6, 4), 127, np.int8)
    file = tmp_path / "planted.onnx"
    file.write_bytes(planted("MatMulInteger", weights, np.uint8(0), 2))
    codes = np.full((3, 6), 255, np.uint8)
    feeds = Codes(name="x", rows=codes, input=Preprocess())
    assert pair_sums(codes, weights)[0] == 3 * 3 * 4
    exact = codes.astype(int) @ weights.astype(int)
    np.testing.assert_array_equal(emulated_logits(file, feeds, "sse"), exact)
    np.testing.assert_array_equal(emulated_logits(file, feeds, "avx2"), np.full_like(exact, 3 * 32767))
