"""What every room's tests may use: one thread, a cache of their own, and something tiny to train and prune."""

import os

import pytest
import torch
from hypothesis import HealthCheck
from hypothesis import settings as profile
from typer.testing import CliRunner

from effxfer.artifact import Artifact
from effxfer.cli.app import app
from effxfer.data.settings import DataSettings
from effxfer.net.settings import BackboneSettings
from tests import tiny

profile.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
profile.load_profile("busy")  # nothing is held to a time: the machine may have other work


def pytest_collection_modifyitems(items):
    """Begin with the longest, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


@pytest.fixture(scope="session", autouse=True)
def _alone(tmp_path_factory):
    torch.set_num_threads(1)
    before = dict(os.environ)
    os.environ["EFFXFER_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        os.environ.pop(name, None)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _same_numbers():
    """What a test draws does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """60 images of 16 to 24 pixels in three classes; do not write into it."""
    return tiny.write_images(tmp_path_factory.mktemp("images") / "shapes")


@pytest.fixture(scope="session")
def data(folder) -> DataSettings:
    return tiny.data_of(folder)


@pytest.fixture(scope="session")
def backbone() -> BackboneSettings:
    return tiny.BACKBONE


@pytest.fixture(scope="session")
def dense(tmp_path_factory, data) -> Artifact:
    """A tiny network that knows the classes of `folder`; do not write into its directory."""
    return tiny.finetune(tmp_path_factory.mktemp("made") / "dense", data)


@pytest.fixture(scope="session")
def exported(tmp_path_factory, dense, data) -> Artifact:
    """`dense` as ONNX, without int8; do not write into its directory."""
    return tiny.stage("export", dense, tmp_path_factory.mktemp("exported") / "onnx", data, int8=False)


@pytest.fixture
def call(monkeypatch):
    """Run a command; give its standard output. Library errors come through as they are."""

    def run(*words):
        words = [str(word) for word in words]
        monkeypatch.setattr("sys.argv", ["effxfer", *words])
        done = CliRunner().invoke(app, words)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return run
