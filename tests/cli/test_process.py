"""Exit codes and signals: what only a process of its own can show."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from effxfer.process.folder_lock import lock_folder
from tests import plans, tiny


def start(*words):
    command = [sys.executable, "-m", "effxfer", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)


def end(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_wrong_settings_end_in_2_and_a_hint(tmp_path):
    code, out, err = end(start("run", "demo", "--set", "dense.fit.epoch=3", "--out", tmp_path / "out"))
    assert (code, out) == (2, "")
    assert "did you mean 'epochs'" in err
    assert "hint:" in err
    assert "Traceback" not in err


def test_a_wrong_flag_ends_in_2():
    code, out, err = end(start("finetune", "--epohcs", "3"))
    assert (code, out) == (2, "")
    assert "--epohcs" in err


def test_missing_data_end_in_3(dense, tmp_path):
    code, out, err = end(start("finetune", dense.path, "--data", tmp_path / "no", "--out", tmp_path / "out"))
    assert (code, out) == (3, "")
    assert str(tmp_path / "no") in err


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_that_are_no_text_are_shown_nevertheless(tmp_path, monkeypatch, encoding):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    tiny.write_images(tmp_path / "data")
    (tmp_path / "data" / "blue").rename(tmp_path / "data" / os.fsdecode(b"caf\xe9"))
    (tmp_path / "data" / "red" / os.fsdecode(b"na\xefve.png")).touch()
    code, out, err = end(start("check", tmp_path / "data", "--out", tmp_path))
    assert code == 3
    assert "na\\udcefve.png" in out + err
    assert "na\\udcefve.png,E301" in (tmp_path / "data_audit.csv").read_text()


def test_a_missing_model_ends_in_4(tmp_path):
    code, out, _ = end(start("finetune", tmp_path / "no", "--out", tmp_path / "out"))
    assert (code, out) == (4, "")


@pytest.mark.slow
def test_a_failed_gate_ends_in_6(dense, tmp_path):
    process = start("export", dense.path, "--no-int8", "--set", "tolerance=1e-12", "--out", tmp_path / "out")
    code, out, err = end(process)
    assert (code, out) == (6, "")
    assert "E601" in err
    assert not (tmp_path / "out").exists()


def test_a_held_directory_ends_in_7(folder, tmp_path):
    file = plans.write(tmp_path / "mine.toml", folder)
    with lock_folder(tmp_path / "out"):
        code, out, err = end(start("run", file, "--out", tmp_path / "out"))
    assert (code, out) == (7, "")
    assert f"process {os.getpid()}" in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_terminated_run_says_how_to_go_on(dense, tmp_path):
    words = ["finetune", dense.path, "--out", tmp_path / "out", "--epochs", "5000", "--seed", "3", "--device", "cpu"]
    process = start(*words)
    deadline = time.monotonic() + 240
    while not list((tmp_path / ".work-out").glob("key-*/checkpoint.pt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "training does not begin"
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    code, out, err = end(process)
    assert (code, out) == (143, "")
    assert err.strip().splitlines()[-1].startswith("effxfer: stopped; go on with: effxfer finetune ")
    assert "--seed 3" in err
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / ".work-out").glob("key-*/checkpoint.pt")), "what was done is kept"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_an_output_without_room_is_named():
    command = [sys.executable, "-m", "effxfer", "models"]
    with Path("/dev/full").open("w") as stream:
        done = subprocess.run(command, stdout=stream, stderr=subprocess.PIPE, text=True, check=False, timeout=120)
    assert done.returncode == 5
    assert "cannot write the output: No space left on device" in done.stderr
