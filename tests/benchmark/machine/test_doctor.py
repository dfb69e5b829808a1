import shutil
import sys
from pathlib import Path

import pytest

from effxfer.benchmark.machine import doctor, facts
from effxfer.benchmark.machine.doctor import (
    diagnose,
    disk_check,
    extra_checks,
    hub_cache,
    network_checks,
    probe_torch,
    thread_check,
    torch_checks,
    version_checks,
)

KNOWN = {"cpu": "X", "usable": 8, "threads": 8, "used": 8, "quota": None, "flags": []}


def test_this_environment_is_fit_and_nothing_heavy_is_imported_here(tmp_path):
    before = set(sys.modules)
    report, checks = diagnose(tmp_path)
    assert [check for check in checks if check.status == "fail"] == []
    assert report["failed"].value == 0
    assert [row["check"] for row in report.tables[0].rows] == [check.name for check in checks]
    assert not {"torch", "timm", "torchvision"} & (set(sys.modules) - before)
    assert all(check.fix for check in checks if check.status != "ok")


def test_versions_below_the_floor_and_missing_packages_fail():
    checks = version_checks(["numpy>=999", "no-such-package>=1", "onnx>=1", "pytest>=999; extra == 'dev'"])
    bad = {check.name: check for check in checks if check.status == "fail"}
    assert set(bad) == {"numpy", "no-such-package"}
    assert bad["numpy"].fix == "pip install 'numpy>=999'"
    assert "missing" in bad["no-such-package"].text


def test_running_from_a_folder_is_a_warning():
    assert [check.status for check in version_checks(None)] == ["ok", "warn"]


def test_a_missing_extra_names_the_pip_install(monkeypatch):
    needs = ["pyarrow>=18; extra == 'table'", "pillow-heif>=0.21; extra == 'heic'", "pytest; extra == 'dev'", "numpy"]
    monkeypatch.setattr(facts, "version", lambda name: None if name == "pillow-heif" else "1.0")
    checks = {check.name: check for check in extra_checks(needs)}
    assert set(checks) == {"extra heic", "extra table"}
    assert (checks["extra heic"].status, checks["extra heic"].fix) == ("warn", "pip install 'effxfer[heic]'")
    assert checks["extra table"].status == "ok"


def fake_modules(tmp_path, monkeypatch, torchvision):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(
        "__version__ = '9.9.0'\n"
        "class version: cuda = None\n"
        "class cuda:\n    device_count = staticmethod(lambda: 0)\n"
        "class backends:\n    class mps:\n        is_available = staticmethod(lambda: False)\n"
        "def get_num_threads(): return 1\n"
    )
    (tmp_path / "torchvision.py").write_text(torchvision)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_a_torchvision_for_another_torch_is_found_in_a_child_process(tmp_path, monkeypatch):
    fake_modules(tmp_path, monkeypatch, "raise RuntimeError('operator torchvision::nms does not exist')")
    found = probe_torch()
    assert found["torch"] == "9.9.0"
    check = torch_checks(found)[0]
    assert check.status == "fail"
    assert "are not compatible" in check.text
    assert "nms does not exist" in check.text
    assert check.fix == "pip install --upgrade --force-reinstall torch torchvision"


def test_a_crash_on_import_is_found_too(tmp_path, monkeypatch):
    fake_modules(tmp_path, monkeypatch, "import os; os.abort()")
    (check,) = torch_checks(probe_torch())
    assert check.status == "fail"
    assert "ended the process" in check.text


def test_an_endless_import_is_stopped(tmp_path, monkeypatch):
    fake_modules(tmp_path, monkeypatch, "import time; time.sleep(600)")
    assert "longer than" in probe_torch(0.5)["error"]


@pytest.mark.parametrize(
    ("found", "smi", "status", "text"),
    [
        ({"cuda": ["H100"], "built_for": "13.0"}, True, "ok", "H100"),
        ({"cuda": [], "built_for": "13.0"}, True, "warn", "cannot use it"),
        ({"cuda": [], "built_for": None}, True, "warn", "without CUDA"),
        ({"cuda": [], "built_for": None}, False, "ok", "no GPU"),
        ({"mps": True}, False, "ok", "mps"),
    ],
)
def test_devices(monkeypatch, found, smi, status, text):
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi" if smi else None)
    check = torch_checks({"torch": "2.14", "torchvision": "0.29", **found})[1]
    assert (check.status, text in check.text) == (status, True)


def test_threads_beyond_a_containers_limit_are_a_warning():
    assert thread_check(KNOWN, {}).status == "ok"
    limited = {**KNOWN, "quota": 1.5, "used": 2}
    check = thread_check(limited, {})
    assert (check.status, check.fix) == ("ok", "")
    assert "a limit of 1.5 cores" in check.text
    assert "2 used by default" in check.text
    check = thread_check(limited, {"OMP_NUM_THREADS": "8"})
    assert (check.status, check.fix) == ("warn", "export OMP_NUM_THREADS=2")
    assert thread_check(limited, {"OMP_NUM_THREADS": "1"}).status == "ok"
    assert thread_check(KNOWN, {"OMP_NUM_THREADS": "64"}).status == "warn"


def test_offline_and_unsafe_loading_are_told():
    assert [check.status for check in network_checks({})] == ["ok"]
    offline, unsafe = network_checks({"HF_HUB_OFFLINE": "1", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"})
    assert "local file" in offline.fix
    assert unsafe.fix == "unset TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def test_the_download_cache_is_where_the_hub_keeps_it():
    assert hub_cache({"HF_HUB_CACHE": "/a"}) == Path("/a")
    assert hub_cache({"HF_HOME": "/b"}) == Path("/b/hub")
    assert hub_cache({"XDG_CACHE_HOME": "/c"}) == Path("/c/huggingface/hub")


def test_little_disk_is_a_warning_and_a_folder_yet_to_be_made_is_fine(tmp_path, monkeypatch):
    assert disk_check("disk", tmp_path / "not/yet").status in ("ok", "warn")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1_000_000_000))
    check = disk_check("disk", tmp_path)
    assert (check.status, "1.0 GB free" in check.text) == ("warn", True)
