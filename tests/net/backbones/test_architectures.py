import sys

import pytest
import torch
from torch import nn

from effxfer.errors import SettingsError
from effxfer.net.backbones.architectures import build_body, names, native_preprocess
from effxfer.net.settings import BackboneSettings
from effxfer.net.taps import pool
from effxfer.runtime.images.preprocess import Preprocess


@pytest.mark.parametrize(
    ("source", "args", "width"),
    [
        ("timm:test_resnet", {}, 96),
        ("timm:test_resnet.r160_in1k", {}, 96),
        ("torchvision:squeezenet1_1", {}, 512),
        ("torchvision:shufflenet_v2_x0_5", {}, 1024),
        ("effxfer.net.cifar:resnet20", {"width": 4}, 16),
        ("tests.net.nets:Flat", {"width": 6}, 6),
        ("tests.net.nets:flat", {}, 4),
    ],
)
def test_a_body_gives_features_without_classifier(source, args, width):
    body = build_body(source, args).eval()
    with torch.inference_mode():
        assert pool(body(torch.zeros(2, 3, 64, 64))).shape == (2, width)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("timm:resnet_18", "did you mean 'resnet18'"),
        ("torchvision:resnet_18", "did you mean 'resnet18'"),
        ("timm:zzzzz", "timm has no network 'zzzzz'"),
        ("no.such.module:make", "No module named 'no'"),
        ("tests.net.nets:fat", "has no attribute 'fat'"),
        ("resnet18", "no backbone resnet18:"),
    ],
)
def test_a_misspelt_name_is_told_with_what_is_near(source, text):
    with pytest.raises(SettingsError) as caught:
        build_body(source, {})
    assert text in str(caught.value)
    assert caught.value.hint


def test_arguments_that_it_does_not_take_are_told():
    for source in ("timm:test_resnet", "torchvision:resnet18", "tests.net.nets:flat"):
        with pytest.raises(SettingsError, match="does not take"):
            build_body(source, {"nope": 1})


@pytest.mark.parametrize("source", ["os:system", "torch:load", "torch.hub:load", "tests.net.nets:untold"])
def test_only_what_says_that_it_makes_a_network_is_called(source, tmp_path):
    """An artifact may come from anybody, and names what is called to rebuild it."""
    with pytest.raises(SettingsError, match="is not declared to return a network"):
        build_body(source, {"command": f"touch {tmp_path}/canary"})
    assert not list(tmp_path.iterdir())


def test_the_input_is_what_the_weights_were_trained_with():
    own = native_preprocess(build_body("tests.net.nets:flat", {}), "tests.net.nets:flat")
    assert (own.size, own.mean, own.std) == (16, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    cifar = native_preprocess(build_body("effxfer.net.cifar:resnet20", {}), "effxfer.net.cifar:resnet20")
    assert (cifar.size, cifar.crop_pct, cifar.mean) == (32, 1.0, (0.4914, 0.4822, 0.4465))
    vision = native_preprocess(nn.Identity(), "torchvision:resnet18")
    assert (vision.size, vision.crop_pct, vision.interpolation) == (224, 224 / 256, "bilinear")


def test_names_match_a_pattern():
    assert "mobilenetv2_100" in names("timm", "mobilenetv2*")
    assert all(name.startswith("resnet") for name in names("torchvision", "resnet*"))
    assert "resnet18" in names("torchvision", "resnet*")


@pytest.mark.parametrize(("mode", "crop"), [("center", "center"), ("squash", "squash"), ("border", "letterbox")])
def test_the_crop_is_the_one_that_timm_says(mode, crop):
    body = nn.Identity()
    body.pretrained_cfg = {"input_size": (3, 64, 64), "crop_mode": mode}
    assert native_preprocess(body, "tests.net.nets:flat").crop == crop


def test_the_users_crop_comes_before_the_backbones():
    squashed = BackboneSettings(source="timm:test_resnet", crop="squash").adjust(Preprocess(crop="letterbox"))
    assert squashed.crop == "squash"
    assert BackboneSettings(source="timm:test_resnet").adjust(Preprocess(crop="letterbox")).crop == "letterbox"


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("number", "returns int, not torch.nn.Module"),
        ("raises", "cannot be built with {}: ZeroDivisionError: nothing left"),
        ("wants", "missing 1 required positional argument: 'width'"),
    ],
)
def test_a_factory_that_makes_no_network_is_told(factory, said):
    with pytest.raises(SettingsError) as caught:
        build_body(f"tests.net.foreign:{factory}", {})
    assert said in caught.value.problem


@pytest.mark.parametrize("name", ["ownnet.py", "ownnet/__init__.py"])
def test_a_module_in_the_working_directory_is_told_apart_from_none(tmp_path, monkeypatch, name):
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(SettingsError) as caught:
        build_body("ownnet:make", {})
    assert "set PYTHONPATH=." in caught.value.hint
    with pytest.raises(SettingsError) as caught:
        build_body("othernet:make", {})
    assert "PYTHONPATH" not in caught.value.hint


def test_a_module_that_cannot_be_imported_is_told(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "brokennet.py").write_text("1 / 0\n")
    with pytest.raises(SettingsError, match="importing it raises ZeroDivisionError"):
        build_body("brokennet:make", {})
