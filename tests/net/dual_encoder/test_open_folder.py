import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from effxfer.errors import ModelFileError, SettingsError
from effxfer.net.backbones.architectures import require
from effxfer.net.backbones.pretrained import open_backbone
from effxfer.net.dual_encoder.open_folder import describe
from effxfer.net.heads.compare import Compare
from effxfer.net.settings import BackboneSettings
from tests.net.dual_encoder import towers
from tests.net.text.folders import change_json, randomize


def opened(folder, prefix="clip:", **more):
    return open_backbone(BackboneSettings(source=f"{prefix}{folder}", **more))[0]


@pytest.fixture
def folder(tmp_path):
    towers.write_clip(tmp_path / "clip")
    return tmp_path / "clip"


@cache
def both(kind):
    """The model of transformers and our network of the same weights, with its text tower."""
    folder = Path(mkdtemp())
    acts = {"hidden_act": "gelu"} if kind == "gelu" else {}
    model = towers.write_clip(folder / "hf", text=acts, vision=acts)
    if kind == "open_clip":
        towers.write_open_clip(folder / "open_clip", folder / "hf")
    return model, opened(folder / ("open_clip" if kind == "open_clip" else "hf"))


def of_transformers(model, texts, images):
    """Embeddings before they get length 1, and logits; padded by the end of the text, as CLIP's tokenizer does."""
    longest = max(map(len, texts))
    ids = torch.tensor([[*text, *[towers.END] * (longest - len(text))] for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, pixel_values=images)
    return out.text_embeds, out.image_embeds, out.logits_per_image


@pytest.mark.parametrize("kind", ["quick", "gelu", "open_clip"])
@settings(max_examples=8)
@given(lengths=st.lists(st.integers(0, 18), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_both_towers_give_the_embeddings_of_transformers(kind, lengths, seed):
    model, net = both(kind)
    draw = torch.Generator().manual_seed(seed)
    inner = [torch.randint(0, 58, (length,), generator=draw).tolist() for length in lengths]
    texts = [[towers.END - 1, *text, towers.END] for text in inner]
    images = torch.randn(2, 3, 16, 16, generator=draw)
    expected_texts, expected_images, logits = of_transformers(model, texts, images)
    text = net.text.net
    longest = max(map(len, texts))
    ids = torch.tensor([[*row, *[text.input.pad] * (longest - len(row))] for row in texts])
    with torch.no_grad():
        table, embedded = text.head.embed(text.features(ids)), net.head.embed(net.features(images))
        torch.testing.assert_close(table, expected_texts, rtol=0, atol=1e-5)
        torch.testing.assert_close(embedded, expected_images, rtol=0, atol=1e-5)
        torch.testing.assert_close(net.head.compare(net.features(images), table), logits, rtol=0, atol=1e-4)
        for row, own in zip(texts, table, strict=True):  # neighbours and padding change nothing
            alone = text.head.embed(text.features(torch.tensor([row])))[0]
            torch.testing.assert_close(alone, own, rtol=0, atol=1e-5)


def test_texts_are_tokenized_as_by_transformers(folder):
    tokens = opened(folder).text.net.input
    library = transformers.CLIPTokenizer(
        vocab=towers.VOCABULARY, merges=[tuple(merge.split()) for merge in towers.MERGES]
    )
    for text in ("a red cat", "A  Blue\tCAT", "recat", "", "re's", "a " * 30):
        expected = library(text, truncation=True, max_length=20).input_ids
        assert tokens.decode(text).tolist() == expected


def test_the_source_is_recorded_without_the_folder(folder):
    net = opened(folder)
    assert net.backbone["source"] == "timm:vit_base_patch32_clip_quickgelu_224"
    assert net.input.size == 16
    assert net.classes == ()
    assert net.text.prompts == ("a photo of a {}",)
    assert float(net.head.scale) == pytest.approx(7.389, rel=1e-3)


def test_published_sizes_have_their_names(folder):
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    change_json(folder / "config.json", vision_config={**sizes, "image_size": 224, "patch_size": 16})
    image = describe(folder).image
    assert (image.source, image.args) == ("timm:vit_base_patch16_clip_quickgelu_224", {})


def test_the_preprocessing_is_that_of_the_folder(folder, tmp_path):
    towers.write_open_clip(tmp_path / "other", folder)
    input = opened(tmp_path / "other").input
    assert (input.crop, input.interpolation, input.mean) == ("squash", "bilinear", (0.5, 0.5, 0.5))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1, 0.2, 0.3], "resample": 2}))
    assert (opened(folder).input.mean, opened(folder).input.interpolation) == ((0.1, 0.2, 0.3), "bilinear")


@pytest.mark.parametrize("kind", ["CLIPTextModel", "CLIPTextModelWithProjection"])
def test_a_text_tower_may_come_alone(kind, tmp_path):
    torch.manual_seed(0)
    model = getattr(transformers, kind)(transformers.CLIPTextConfig(**towers.TEXT, projection_dim=12)).eval()
    randomize(model)
    model.save_pretrained(tmp_path)
    towers.write_tokenizer(tmp_path)
    net, ids = opened(tmp_path, "hf:"), torch.tensor([[59, 3, 30, 60]])
    with torch.no_grad():
        out = model(input_ids=ids)
        if kind == "CLIPTextModel":
            assert not isinstance(net.head, Compare)
            torch.testing.assert_close(net.features(ids), out.pooler_output, rtol=0, atol=1e-5)
        else:
            torch.testing.assert_close(net.head.map(net.features(ids)), out.text_embeds, rtol=0, atol=1e-5)
    with pytest.raises(ModelFileError, match="no image tower"):
        opened(tmp_path)


def test_the_text_tower_of_both_opens_by_hf(folder):
    net = opened(folder, "hf:", args={"dropout": 0.1}, size=9)
    assert net.input.size == 9
    assert net.body.blocks[0].mlp.drop.p == 0.1
    assert isinstance(net.head, Compare)
    require(f"hf:{folder}")
    require(f"clip:{folder}")


def test_older_files_have_position_ids_and_the_end_of_another_tokenizer(folder):
    change_json(folder / "config.json", text_config={**towers.TEXT, "eos_token_id": 2})
    state = load_file(folder / "model.safetensors")
    torch.save({**state, "text_model.embeddings.position_ids": torch.arange(20)[None]}, folder / "pytorch_model.bin")
    before = opened(folder).text.net.body.state_dict()
    (folder / "model.safetensors").unlink()
    for name, tensor in opened(folder).text.net.body.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_another_tokenizer_is_refused(folder):
    change_json(folder / "config.json", text_config={**towers.TEXT, "eos_token_id": 7})
    with pytest.raises(ModelFileError, match="reads a text at the token 7, the tokenizer ends it with 60") as error:
        opened(folder)
    assert error.value.code == "E436"


@pytest.mark.parametrize(
    ("file", "part", "change", "text"),
    [
        ("hf", "text_config", {"hidden_act": "mish"}, "no activation 'mish'"),
        ("hf", "text_config", {"num_attention_heads": 5}, "5 heads do not divide the width 24"),
        ("hf", "text_config", {"vocab_size": -1}, "vocab_size is -1"),
        ("hf", "vision_config", {"num_channels": 4}, "images of 4 channels"),
        ("hf", "vision_config", {"hidden_act": "relu"}, "an image tower with relu"),
        ("open_clip", "text_cfg", {"no_causal_mask": True}, "text_cfg.no_causal_mask = True is not built"),
        ("open_clip", "text_cfg", {"hf_model_name": "x"}, "text_cfg.hf_model_name = 'x' is not built"),
        ("open_clip", "vision_cfg", {"attentional_pool": True}, "vision_cfg.attentional_pool = True is not built"),
        ("open_clip", "vision_cfg", {"timm_model_name": "convnext"}, "no image tower that can be built"),
        ("open_clip", "vision_cfg", {"layers": [3, 4, 6, 3]}, "no image tower that can be built"),
    ],
)  # fmt: skip
def test_what_is_not_built_is_refused_by_name(folder, tmp_path, file, part, change, text):
    if file == "open_clip":
        towers.write_open_clip(tmp_path / "other", folder)
        folder, name = tmp_path / "other", "open_clip_config.json"
        model = towers.read_config(folder, name)["model_cfg"]
        change_json(folder / name, model_cfg={**model, part: {**model[part], **change}})
    else:
        config = towers.read_config(folder)
        change_json(folder / "config.json", **{part: {**config[part], **change}})
    with pytest.raises(ModelFileError, match=text):
        opened(folder)


def test_weights_that_do_not_fit_are_listed_and_not_read(folder, monkeypatch):
    state = load_file(folder / "model.safetensors")
    del state["text_model.encoder.layers.1.mlp.fc1.bias"]
    save_file(state, folder / "model.safetensors")
    with monkeypatch.context() as patched:
        patched.setattr("effxfer.net.dual_encoder.tower_weights.read_tables", lambda _file: pytest.fail("were read"))
        missing = r"1 missing \(text text_model.encoder.layers.1.mlp.fc1.bias for blocks.1.mlp.fc1.bias\)"
        with pytest.raises(ModelFileError, match=missing):
            opened(folder)
    fixed = {**state, "text_model.encoder.layers.1.mlp.fc1.bias": torch.zeros(96)}
    save_file({**fixed, "text_model.encoder.layers.0.lora": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"lacks: 1 unknown \(text_model.encoder.layers.0.lora\)"):
        opened(folder)
    save_file({**fixed, "logit_scale": torch.tensor(50.0)}, folder / "model.safetensors")
    with pytest.raises(ModelFileError, match="scale of e to the power 50"):
        opened(folder)


def test_settings_that_do_not_suit_are_refused(folder, tmp_path):
    with pytest.raises(SettingsError, match="opens pretrained towers"):
        opened(folder, pretrained=False)
    with pytest.raises(SettingsError, match="takes images of 16 px"):
        opened(folder, size=32)
    with pytest.raises(ModelFileError, match="room for 20"):
        opened(folder, "hf:", size=21)
    with pytest.raises(ModelFileError, match="no folder"):
        opened(tmp_path / "absent")
    shutil.copy(folder / "config.json", tmp_path)
    change_json(tmp_path / "config.json", model_type="siglip")
    with pytest.raises(ModelFileError, match="'siglip', no dual encoder") as error:
        opened(tmp_path)
    assert error.value.code == "E432"
