"""The first pass through somebody's network: what can be carried is, and all else is said in words."""

import pytest
import torch

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.backbones.pretrained import open_backbone
from effxfer.net.backbones.probe import build_untrained
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.settings import BackboneSettings
from effxfer.net.taps import tap_widths
from tests.net import foreign


def opened(name, size=32, **more):
    return open_backbone(
        BackboneSettings(source=name if ":" in name else f"tests.net.foreign:{name}", size=size, **more)
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "name", ["Base", "Pair", "Table", "Tokens", "Auxiliary", "Obstinate", "Grey", "Sized", "Lazy", "Bare"]
)
def test_what_can_be_carried_is_and_survives_a_rebuild(name, training):
    net, _ = opened(name, size=48)
    width = tap_widths(net)["out"]
    apply_edit(net, "set_head", spec={"kind": "linear"}, features=width, classes=["a", "b"])
    again = rebuild(net.backbone, net.edits, net.input, net.classes)
    again.load_state_dict(net.state_dict())
    x = torch.rand(3, 3, 48, 48)
    logits = net.train(training)(x)
    assert logits.shape == (3, 2)
    assert torch.equal(again.train(training)(x), logits)


def test_a_network_of_one_channel_sees_the_mean_of_three():
    net, notes = opened("Grey", size=None)
    assert net.input.mean == (0.5, 0.5, 0.5)
    assert net.edits == [{"kind": "grey"}]
    assert "grey" in notes[0]
    x = torch.rand(2, 3, 32, 32)
    plain = foreign.Grey().eval()
    plain.load_state_dict(net.body.state_dict())
    assert torch.equal(net.eval().outputs(x, ("out",))["out"], plain(x.mean(1, keepdim=True)))


@pytest.mark.parametrize(
    ("source", "args", "added", "edits"),
    [
        ("timm:vit_tiny_patch16_224", {"depth": 1}, {"img_size": 32}, []),
        ("timm:vit_tiny_patch16_224", {"depth": 1, "in_chans": 1}, {"img_size": 32}, [{"kind": "grey"}]),
        ("timm:test_resnet", {"in_chans": 1}, {}, [{"kind": "grey"}]),
        ("timm:test_resnet", {"features_only": True}, {}, []),
        ("timm:test_resnet", {}, {}, []),
        ("tests.net.foreign:Auxiliary", {}, {"aux_logits": False}, []),
        ("tests.net.foreign:Auxiliary", {"aux_logits": True}, {}, []),
        ("tests.net.foreign:Sized", {}, {}, []),
        ("tests.net.foreign:Fixed", {}, {}, []),
    ],
)
def test_only_what_a_network_needs_is_added_to_its_arguments(source, args, added, edits):
    net, notes = opened(source, args=args, pretrained=False)
    assert net.backbone == {"source": source, "args": {**args, **added}}
    assert net.edits == edits
    assert len(notes) == len(added) + len(edits)


def test_a_size_among_the_arguments_is_the_size():
    net, notes = opened("timm:vit_tiny_patch16_224", None, args={"depth": 1, "img_size": 64}, pretrained=False)
    assert net.input.size == 64
    assert notes == ()


def test_auxiliary_classifiers_of_torchvision_are_left_out():
    with pytest.warns(FutureWarning, match="initialization"):
        net, (note,) = opened("torchvision:googlenet", 64, pretrained=False)
    assert net.backbone["args"] == {"aux_logits": False}
    assert "auxiliary" in note
    assert net.train().outputs(torch.zeros(2, 3, 64, 64), ("out",))["out"].shape == (2, 1024)


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("OneBatch", "it returns 1 rows for 2 images", "features (B, D), maps (B, D, h, w) or tokens (B, n, D)"),
        ("Complex", "it returns complex64", "features (B, D)"),
        ("Whole", "it returns int64", "features (B, D)"),
        ("Five", "it returns a tensor of shape (2, 8, 1, 24, 24)", "features (B, D)"),
        ("Single", "it returns a tensor of shape (2,)", "features (B, D)"),
        ("Words", "it returns str, not a tensor", "features (B, D)"),
        ("Leaving", "SystemExit: 0", "features (B, D)"),
        ("Fixed", "mat1 and mat2 shapes cannot be multiplied", "images of 32 px work: backbone.size=32"),
    ],
)
def test_what_cannot_be_used_is_said_with_what_would_do(name, said, hint):
    with pytest.raises(SettingsError) as caught:
        opened(name, size=48)
    assert caught.value.code == "E216"
    assert said in caught.value.problem
    assert "images of 48 px" in caught.value.problem
    assert hint in caught.value.hint


def test_a_factory_that_leaves_does_not_end_the_program_in_silence():
    with pytest.raises(SettingsError, match="SystemExit"):
        opened("leaves")


def test_channels_that_no_image_has_are_said():
    with pytest.raises(SettingsError, match=r"expected input.* to have 5 channels"):
        opened("timm:test_resnet", args={"in_chans": 5}, pretrained=False)


def test_an_answer_that_is_no_number_is_refused():
    with pytest.raises(ModelFileError, match="NaN or infinity") as caught:
        opened("NotANumber")
    assert caught.value.code == "E407"


def test_a_network_that_does_not_look_is_noted():
    _, (_, note) = opened("Deaf")
    assert note.startswith("W416")
    _, (note,) = opened("Base")
    assert "W416" not in note


def test_opening_draws_from_no_generator():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    nets = [build_untrained(BackboneSettings(source="tests.net.foreign:Lazy", size=32))[0] for _ in range(2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(nets[0].body.conv.weight, nets[1].body.conv.weight)
