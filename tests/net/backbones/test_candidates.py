"""Checkpoints that hold several networks: the one that the field takes, the one that the user names, or a list."""

import pytest
import timm
import torch
from torch import nn

from effxfer.errors import ModelFileError
from effxfer.net.backbones.candidates import choose_network, list_candidates
from effxfer.net.backbones.weights import load_weights
from tests.net.nets import Flat


def net(seed):
    torch.manual_seed(seed)
    return Flat(5).state_dict()


GOOD, OTHER = net(1), net(2)


def under(**networks):
    """Networks in one table, each below its prefix."""
    return {f"{prefix}.{name}": tensor for prefix, state in networks.items() for name, tensor in state.items()}


def chosen(tmp_path, value, part=""):
    torch.save(value, tmp_path / "w.pth")
    network, notes = choose_network(Flat(0), tmp_path / "w.pth", part)
    assert network.fits
    return network, notes


PAIRS = {
    "timm": ({"state_dict": OTHER, "state_dict_ema": GOOD}, "state_dict_ema", "as timm does"),
    "convnext": ({"model": OTHER, "model_ema": GOOD}, "model_ema", "as timm does"),
    "torchvision": (
        {"model": OTHER, "model_ema": {**under(module=GOOD), "n_averaged": torch.tensor(3)}}, "model_ema", "timm",
    ),
    "swa": ({"model_state_dict": OTHER, "swa_model": GOOD}, "swa_model", "as timm does"),
    "ema_backbone": ({"state_dict": under(backbone=OTHER, ema_backbone=GOOD)}, "state_dict.ema_backbone", "timm"),
    "mmengine": (
        {"state_dict": under(backbone=GOOD),
         "ema_state_dict": {"steps": torch.tensor(3), **under(**{"module.backbone": OTHER})}},
        "state_dict.backbone", "solo-learn",
    ),
    "lightning": ({"state_dict": GOOD, "current_model_state": OTHER}, "state_dict", "as Lightning does"),
    "dino": (
        {"student": under(**{"module.backbone": OTHER}), "teacher": under(backbone=GOOD)}, "teacher.backbone", "DINO",
    ),
    "mean teacher": ({"state_dict": under(teacher=GOOD, student=OTHER)}, "state_dict.teacher", "DINO"),
    "ijepa": (
        {"encoder": under(module=OTHER), "target_encoder": under(module=GOOD), "predictor": {}}, "target_encoder",
        "I-JEPA",
    ),
    "moco": (
        {"state_dict": under(**{"module.encoder_q": GOOD, "module.encoder_k": OTHER})}, "state_dict.encoder_q", "MoCo",
    ),
    "moco 3": ({"state_dict": under(base_encoder=GOOD, momentum_encoder=OTHER)}, "state_dict.base_encoder", "MoCo"),
    "byol": (under(online_encoder=GOOD, target_encoder=OTHER), "online_encoder", "BYOL"),
    "solo-learn": (under(backbone=GOOD, momentum_backbone=OTHER), "backbone", "solo-learn"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PAIRS)
def test_of_several_the_one_is_taken_that_the_field_takes(tmp_path, kind):
    value, label, custom = PAIRS[kind]
    network, (note,) = chosen(tmp_path, value)
    assert network.label == label
    assert torch.equal(network.state["conv.weight"], GOOD["conv.weight"])
    assert f"loaded {label}" in note
    assert custom in note
    assert "@w.pth#NAME" in note


@pytest.mark.parametrize(
    ("kind", "part"),
    [("timm", "state_dict"), ("dino", "student"), ("dino", "student.backbone"), ("moco", "encoder_k"),
     ("moco", "state_dict.encoder_k"), ("ema_backbone", "backbone"), ("solo-learn", "momentum_backbone")],
)  # fmt: skip
def test_another_is_taken_where_it_is_named(tmp_path, kind, part):
    network, notes = chosen(tmp_path, PAIRS[kind][0], part)
    assert torch.equal(network.state["conv.weight"], OTHER["conv.weight"])
    assert notes == ()


def test_a_place_that_is_named_in_full_comes_before_one_that_ends_like_it(tmp_path):
    value = {"state_dict": OTHER, "ema": {"state_dict": GOOD}}
    assert chosen(tmp_path, value)[0].label == "ema.state_dict"
    assert chosen(tmp_path, value, "state_dict")[0].label == "state_dict"
    assert chosen(tmp_path, value, "ema")[0].label == "ema.state_dict"


def test_what_does_not_fit_is_no_choice(tmp_path):
    value = {"discriminator": {"conv.weight": torch.zeros(1)}, "generator": GOOD, "optimizer": {"m": torch.zeros(1)}}
    network, notes = chosen(tmp_path, value)
    assert network.label == "generator"
    assert notes == ()


def test_networks_that_are_equal_are_no_choice(tmp_path):
    assert chosen(tmp_path, {"best": GOOD, "last": {k: t.clone() for k, t in GOOD.items()}})[1] == ()


@pytest.mark.parametrize(
    ("value", "part", "names"),
    [
        ({"generator_a": GOOD, "generator_b": OTHER}, "", "generator_a, generator_b"),
        ({"teacher": GOOD, "student": OTHER, "third": net(3)}, "", "teacher, student, third"),
        ({"teacher": GOOD, "student": OTHER}, "tea", "student, teacher"),
        (GOOD, "teacher", "(the file itself)"),
    ],
)
def test_names_are_listed_where_nothing_can_be_chosen(tmp_path, value, part, names):
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(ModelFileError) as caught:
        choose_network(Flat(0), tmp_path / "w.pth", part)
    assert caught.value.code == "E415"
    assert names in str(caught.value)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda n: f"_forward_module.model.{n}",
        lambda n: f"_fsdp_wrapped_module.{n.replace('.', '._fsdp_wrapped_module._checkpoint_wrapped_module.')}",
        lambda n: f"model._orig_mod.{n}",
        lambda n: n.replace("conv.", "conv.module."),
        lambda n: f"any.thing.at.all.{n}",
    ],
)
def test_what_wrappers_put_into_names_goes(tmp_path, wrap):
    network, _ = chosen(tmp_path, {"state_dict": {wrap(name): tensor for name, tensor in GOOD.items()}})
    assert torch.equal(network.state["conv.weight"], GOOD["conv.weight"])


def test_a_word_of_a_wrapper_stays_where_the_body_uses_it():
    body = nn.ModuleDict({"module": nn.Linear(1, 1)})
    (one,) = list_candidates(body, {"": {f"module.{name}": tensor for name, tensor in body.state_dict().items()}})
    assert one.fits


def test_position_embeddings_of_another_size_are_resampled_as_timm_does(tmp_path):
    torch.manual_seed(0)
    arguments = {"num_classes": 0, "embed_dim": 12, "depth": 1, "num_heads": 1}
    small, large = (timm.create_model("vit_tiny_patch16_224", img_size=s, **arguments) for s in (32, 64))
    nn.init.normal_(large.pos_embed)
    torch.save(large.state_dict(), tmp_path / "w.pth")
    (note,) = load_weights(small, tmp_path / "w.pth")
    assert "converted by timm's own code" in note
    assert torch.equal(small.pos_embed[:, 0], large.pos_embed[:, 0]), "the class token is not resampled"
    assert torch.equal(small.blocks[0].mlp.fc1.weight, large.blocks[0].mlp.fc1.weight)


def test_a_filter_of_timm_that_fails_changes_nothing(tmp_path):
    small = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0, embed_dim=12, depth=1, num_heads=1)
    torch.save({"visual.class_embedding": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(ModelFileError) as caught:
        load_weights(small, tmp_path / "w.pth")
    assert caught.value.code == "E405"
