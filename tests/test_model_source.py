import shutil

import pytest
import torch

from effxfer import model_source
from effxfer.errors import ModelFileError
from effxfer.model_source import bundled_models, find, identity, open_model
from effxfer.net.settings import BackboneSettings


def test_the_bundled_models_are_whole():
    for name in bundled_models():
        assert find(name).net().output.width


def test_find_tells_directories_from_libraries(dense):
    assert find("timm:resnet18") is None
    assert find(str(dense.path)).manifest == dense.manifest


def test_a_bundled_model_is_found_by_name_or_suggested(dense, tmp_path, monkeypatch):
    shutil.copytree(dense.path, tmp_path / "models" / "colours")
    monkeypatch.setattr(model_source, "bundled_folder", lambda kind: tmp_path / kind)
    assert bundled_models() == ["colours"]
    assert find("colours").manifest == dense.manifest
    with pytest.raises(ModelFileError, match="did you mean 'colours'"):
        find("colors")


def test_a_model_can_be_a_backbone(dense):
    x = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    net, notes = open_model(BackboneSettings(source=str(dense.path)))
    with torch.inference_mode():
        assert torch.equal(net(x), dense.net()(x))
    assert "finetune" in notes[0]


def test_a_model_moved_elsewhere_is_the_same_backbone(dense, tmp_path):
    copy = shutil.copytree(dense.path, tmp_path / "copy")
    here, there = (identity(BackboneSettings(source=str(path))) for path in (dense.path, copy))
    assert here == there
    assert here != identity(BackboneSettings(source=str(copy), size=20))
