"""A pipeline's own network lies beside its file."""

import shutil
import sys

from effxfer.artifact import Artifact
from tests import tiny
from tests.net import foreign

TOML = """
[data]
source = "{data}"
val_fraction = 0.2
test_fraction = 0.2

[backbone]
source = "foreign_beside:Pair"
size = 16

[[stage]]
name = "dense"
run = "finetune"
fit.epochs = 0
"""


def test_a_pipeline_finds_the_network_beside_its_file(call, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    (tmp_path / "mine").mkdir()
    shutil.copy(foreign.__file__, tmp_path / "mine" / "foreign_beside.py")
    data = tiny.write_images(tmp_path / "images", per_class=5)
    (tmp_path / "mine" / "plan.toml").write_text(TOML.format(data=data))
    try:
        call("run", tmp_path / "mine" / "plan.toml", "--out", tmp_path / "out", "--device", "cpu")
    finally:
        sys.modules.pop("foreign_beside", None)
    manifest = Artifact.load(tmp_path / "out" / "1-dense").manifest
    assert manifest.backbone["source"] == "foreign_beside:Pair"
