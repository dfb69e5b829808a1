import pytest
import torch

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.backbones.pretrained import open_backbone
from effxfer.net.backbones.trust import check_trusted
from effxfer.net.mlp import mlp
from effxfer.net.settings import BackboneSettings
from effxfer.runtime.vectors.vectors import Vectors

SOURCE = "effxfer.net.mlp:mlp"


def backbone(**options) -> BackboneSettings:
    return BackboneSettings(source=SOURCE, **options)


def test_without_hidden_layers_it_is_the_identity():
    x = torch.randn(3, 5)
    assert torch.equal(mlp(5)(x), x)
    assert not list(mlp(5).parameters())


@pytest.mark.parametrize(("options", "layers"), [({}, 4), ({"dropout": 0.1}, 6), ({"batchnorm": True}, 6)])
def test_hidden_layers(options, layers):
    net = mlp(5, [7, 3], **options)
    assert len(net) == layers
    assert net.eval()(torch.randn(2, 5)).shape == (2, 3)


def test_it_is_opened_for_vectors_that_the_training_split_standardises():
    net, _ = open_backbone(backbone(args={"inputs": 5, "hidden": [4]}))
    assert net.input == Vectors(size=5, standardize=True)
    assert open_backbone(backbone(args={"inputs": 5}, standardize=False))[0].input == Vectors(size=5)
    check_trusted(net.backbone, "the file")
    with pytest.raises(ModelFileError, match="might fetch"):
        check_trusted({"source": SOURCE, "args": {"file": "x"}}, "the file")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"size": 64}, "takes vectors of 5 numbers"), ({"crop": "squash"}, "backbone.crop: the backbone takes vectors")],
)
def test_settings_of_images_are_refused(options, message):
    with pytest.raises(SettingsError, match=message):
        open_backbone(backbone(args={"inputs": 5}, **options))


def test_standardize_is_refused_for_images():
    with pytest.raises(SettingsError, match=r"backbone\.standardize"):
        open_backbone(BackboneSettings(source="effxfer.net.conv4:conv4", standardize=False))


def test_the_identity_of_other_networks_does_not_change():
    assert "standardize" not in BackboneSettings(source="timm:resnet18").plain()
    assert backbone(standardize=False).plain()["standardize"] is False
