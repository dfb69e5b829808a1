"""Where pretrained weights come from: a local file, a library's own, or nowhere, which is said at once."""

import socket

import pytest
import timm
import torch
from safetensors.torch import save_file

from effxfer.errors import ModelFileError, ResourceError, SettingsError
from effxfer.net.backbones.pretrained import open_backbone
from effxfer.net.settings import BackboneSettings
from tests.net.nets import holds_weights_of


def test_opens_a_local_file_by_name(tmp_path, trained):
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    settings = BackboneSettings(source=f"tests.net.nets:Flat@{tmp_path}/w.safetensors", size=24, std=(0.1, 0.1, 0.1))
    net, notes = open_backbone(settings)
    assert holds_weights_of(net.body, trained)
    assert len(notes) == 1
    assert net.backbone == {"source": "tests.net.nets:Flat", "args": {}}, "the path does not travel along"
    assert (net.input.size, net.input.crop_pct, net.input.std) == (24, 1.0, (0.1, 0.1, 0.1))
    assert net.input.mean == (0.5, 0.4, 0.3)


def test_random_weights_need_neither_file_nor_network(monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *_a, **_k: pytest.fail("asked the network"))
    _, notes = open_backbone(BackboneSettings(source="timm:test_resnet", pretrained=False))
    assert notes == ()


def test_a_factory_brings_its_own_weights(monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *_a, **_k: pytest.fail("asked the network"))
    _, (note,) = open_backbone(BackboneSettings(source="tests.net.nets:flat"))
    assert "its factory set" in note


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, nothing cached, no proxy; asking is counted."""
    asked = []

    def refuse(address, timeout):
        asked.append((address, timeout))
        raise OSError(101, "Network is unreachable")

    for name in ("HTTPS_PROXY", "https_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr("effxfer.net.backbones.pretrained._is_cached", lambda _body: False)
    monkeypatch.setattr("effxfer.net.backbones.pretrained._is_in_hub", lambda _name: False)
    return asked


@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:squeezenet1_1"])
def test_without_a_network_the_local_way_is_named_at_once(offline, name):
    with pytest.raises(ResourceError) as caught:
        open_backbone(BackboneSettings(source=name))
    assert "cannot be reached" in str(caught.value)
    assert f"{name}@weights.safetensors" in str(caught.value)
    ((_, timeout),) = offline
    assert timeout <= 3


def test_offline_by_wish_does_not_even_ask(offline, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    with pytest.raises(ResourceError, match="HF_HUB_OFFLINE is set"):
        open_backbone(BackboneSettings(source="timm:test_resnet"))
    assert offline == []


def test_cached_weights_of_torchvision_need_no_network(offline, monkeypatch, tmp_path):
    import torchvision

    monkeypatch.setattr("effxfer.net.backbones.pretrained._is_in_hub", lambda _name: True)
    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    monkeypatch.setattr("effxfer.net.backbones.pretrained._fetch_torchvision", lambda _name: state)
    net, _ = open_backbone(BackboneSettings(source="torchvision:squeezenet1_1"))
    assert offline == []
    assert torch.equal(net.body.features[0].weight, state["features.0.weight"])


def test_a_cached_file_of_torchvision_is_found_by_its_name(monkeypatch, tmp_path):
    from effxfer.net.backbones.pretrained import _is_in_hub

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert not _is_in_hub("squeezenet1_1")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth").touch()
    assert _is_in_hub("squeezenet1_1")


def test_a_name_that_is_not_there_is_told_before_the_network_is_asked(offline):
    with pytest.raises(SettingsError, match="did you mean"):
        open_backbone(BackboneSettings(source="timm:test_resnett"))
    assert offline == []


def test_the_file_that_was_read_is_part_of_the_identity(tmp_path, trained):
    files = [tmp_path / name for name in ("a.safetensors", "b.safetensors", "c.safetensors")]
    for file, change in zip(files, (0, 0, 1), strict=True):
        save_file({n: t + change if t.is_floating_point() else t for n, t in trained.state_dict().items()}, file)
    a, b, c = (BackboneSettings(source=f"tests.net.nets:Flat@{file}").identity() for file in files)
    assert a == b
    assert a != c
    with pytest.raises(ModelFileError, match="no weights file"):
        BackboneSettings(source=f"tests.net.nets:Flat@{tmp_path}/none.pth").identity()


def test_an_image_tower_of_open_clip_opens_by_its_name_in_timm(tmp_path):
    tower = timm.create_model("test_resnet", num_classes=0)
    state = {f"visual.trunk.{name}": tensor.clone() for name, tensor in tower.state_dict().items()}
    others = ("visual.head.proj.weight", "token_embedding.weight", "positional_embedding", "text_projection")
    state |= {name: torch.zeros(8, 64) for name in others} | {"logit_scale": torch.zeros(())}
    save_file(state, tmp_path / "open_clip_model.safetensors")
    net, notes = open_backbone(BackboneSettings(source=f"timm:test_resnet@{tmp_path}/open_clip_model.safetensors"))
    assert all(torch.equal(net.body.state_dict()[name], tensor) for name, tensor in tower.state_dict().items())
    assert any("text_projection" in note for note in notes)
