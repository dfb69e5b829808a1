import subprocess

import pytest

from effxfer.deploy.bundle import web_library
from effxfer.deploy.bundle.web_library import ORT_WEB, TOKENIZERS_WEB, find_library
from effxfer.errors import ResourceError


@pytest.fixture
def package(tmp_path):
    """What npm would leave in node_modules."""
    folder = tmp_path / "project" / "node_modules" / ORT_WEB.package
    (folder / "dist").mkdir(parents=True)
    for name in ORT_WEB.files:
        (folder / "dist" / name).write_bytes(name.encode())
    (folder / "package.json").write_text('{"name": "onnxruntime-web", "version": "9.8.7"}')
    return folder


def test_package_and_dist_are_both_taken(package):
    for folder in (package, package / "dist"):
        found = find_library(ORT_WEB, str(folder))
        assert found.version == "9.8.7"
        assert found.files == {name: name.encode() for name in ORT_WEB.files}


def test_node_modules_are_found_from_below(package):
    below = package.parents[1] / "a" / "b"
    below.mkdir(parents=True)
    assert find_library(ORT_WEB, start=below).version == "9.8.7"


def test_a_folder_without_a_file_is_refused_with_what_brings_it(package):
    (package / "dist" / ORT_WEB.files[2]).unlink()
    with pytest.raises(ResourceError, match=ORT_WEB.files[2]) as caught:
        find_library(ORT_WEB, str(package))
    assert "npm install onnxruntime-web" in caught.value.hint
    assert "`ort_web`" in caught.value.hint


def test_files_of_an_unknown_version_say_so(package):
    (package / "package.json").write_text("{")
    assert find_library(ORT_WEB, str(package)).version == "unknown"


def test_without_npm_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(web_library.shutil, "which", lambda name: None)
    with pytest.raises(ResourceError, match="neither node_modules nor npm"):
        find_library(ORT_WEB, start=tmp_path)


def test_npm_packs_one_version_and_runs_nothing_of_it(package, tmp_path, monkeypatch):
    def npm(command, *, cwd, **_):
        asked.append(command)
        (package.parent / "package").symlink_to(package)
        subprocess.check_call(["tar", "czhf", f"{cwd}/o.tgz", "-C", str(package.parent), "package"])
        return subprocess.CompletedProcess(command, 0, "", "")

    asked = []
    monkeypatch.setattr(web_library.shutil, "which", lambda name: "/bin/npm")
    monkeypatch.setattr(web_library.subprocess, "run", npm)
    assert find_library(ORT_WEB, start=tmp_path).version == "9.8.7"
    assert asked[0][1:3] == ["pack", f"{ORT_WEB.package}@{ORT_WEB.version}"]
    assert "--ignore-scripts" in asked[0]


def test_what_npm_complains_of_is_passed_on(tmp_path, monkeypatch):
    def fail(command, **_):
        return subprocess.CompletedProcess(command, 1, "", "npm warn old\nnpm error code ENOTFOUND\n")

    monkeypatch.setattr(web_library.shutil, "which", lambda name: "/bin/npm")
    monkeypatch.setattr(web_library.subprocess, "run", fail)
    with pytest.raises(ResourceError, match="ENOTFOUND"):
        find_library(ORT_WEB, start=tmp_path)


@pytest.mark.parametrize("library", [ORT_WEB, TOKENIZERS_WEB], ids=lambda library: library.folder)
def test_a_licence_of_the_package_comes_along_and_that_of_a_project_does_not(tmp_path, library):
    package = tmp_path / "node_modules" / library.package
    (package / "dist").mkdir(parents=True)
    for name in library.files:
        (package / "dist" / name).write_bytes(b"x")
    (package / "LICENSE").write_bytes(b"Apache")
    assert set(find_library(library, str(package)).files) == set(library.files)
    (package / "package.json").write_text(f'{{"name": "{library.package}", "version": "1.2.3"}}')
    for folder in (package, package / "dist"):
        found = find_library(library, str(folder))
        assert (found.version, found.files["LICENSE"]) == ("1.2.3", b"Apache")
