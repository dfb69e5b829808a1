import subprocess

import pytest

from effxfer.deploy.bundle import ort_web
from effxfer.deploy.bundle.ort_web import FILES, PACKAGE, find_ort_web
from effxfer.errors import ResourceError


@pytest.fixture
def package(tmp_path):
    """What npm would leave in node_modules."""
    folder = tmp_path / "project" / "node_modules" / PACKAGE
    (folder / "dist").mkdir(parents=True)
    for name in FILES:
        (folder / "dist" / name).write_bytes(name.encode())
    (folder / "package.json").write_text('{"name": "onnxruntime-web", "version": "9.8.7"}')
    return folder


def test_package_and_dist_are_both_taken(package):
    for folder in (package, package / "dist"):
        found = find_ort_web(str(folder))
        assert found.version == "9.8.7"
        assert found.files == {name: name.encode() for name in FILES}


def test_node_modules_are_found_from_below(package):
    below = package.parents[1] / "a" / "b"
    below.mkdir(parents=True)
    assert find_ort_web(start=below).version == "9.8.7"


def test_a_folder_without_a_file_is_refused_with_what_brings_it(package):
    (package / "dist" / FILES[2]).unlink()
    with pytest.raises(ResourceError, match=FILES[2]) as caught:
        find_ort_web(str(package))
    assert "npm install onnxruntime-web" in caught.value.hint
    assert "`ort_web`" in caught.value.hint


def test_files_of_an_unknown_version_say_so(package):
    (package / "package.json").write_text("{")
    assert find_ort_web(str(package)).version == "unknown"


def test_without_npm_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(ort_web.shutil, "which", lambda name: None)
    with pytest.raises(ResourceError, match="neither node_modules nor npm"):
        find_ort_web(start=tmp_path)


def test_npm_packs_one_version_and_runs_nothing_of_it(package, tmp_path, monkeypatch):
    def npm(command, *, cwd, **_):
        asked.append(command)
        (package.parent / "package").symlink_to(package)
        subprocess.check_call(["tar", "czhf", f"{cwd}/o.tgz", "-C", str(package.parent), "package"])
        return subprocess.CompletedProcess(command, 0, "", "")

    asked = []
    monkeypatch.setattr(ort_web.shutil, "which", lambda name: "/bin/npm")
    monkeypatch.setattr(ort_web.subprocess, "run", npm)
    assert find_ort_web(start=tmp_path).version == "9.8.7"
    assert asked[0][1:3] == ["pack", f"{PACKAGE}@{ort_web.VERSION}"]
    assert "--ignore-scripts" in asked[0]


def test_what_npm_complains_of_is_passed_on(tmp_path, monkeypatch):
    def fail(command, **_):
        return subprocess.CompletedProcess(command, 1, "", "npm warn old\nnpm error code ENOTFOUND\n")

    monkeypatch.setattr(ort_web.shutil, "which", lambda name: "/bin/npm")
    monkeypatch.setattr(ort_web.subprocess, "run", fail)
    with pytest.raises(ResourceError, match="ENOTFOUND"):
        find_ort_web(start=tmp_path)
