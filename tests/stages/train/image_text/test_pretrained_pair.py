"""From a folder of CLIP to two files that know classes by their names, without training."""

import numpy as np
import pytest
import torch

import effxfer
from effxfer.artifact import Artifact
from effxfer.data.load import load
from effxfer.errors import SettingsError
from effxfer.net.settings import BackboneSettings
from effxfer.runtime.class_tables.embed import embed
from effxfer.runtime.model import Model
from tests import tiny
from tests.net.dual_encoder import towers

PROMPTS = ["a {} cat", "{} a"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "clip"
    return towers.write_clip(folder), BackboneSettings(source=f"clip:{folder}")


@pytest.fixture(scope="module")
def zero_shot(source, data, tmp_path_factory) -> Artifact:
    out = tmp_path_factory.mktemp("zero") / "net"
    return tiny.stage("clip", source[1], out, data, prompts=PROMPTS, fit={"epochs": 0})


def test_classes_are_the_embeddings_of_their_names(zero_shot, source, data):
    model, net = source[0], zero_shot.net()
    text = net.text.net
    filled = [[prompt.replace("{}", name) for prompt in PROMPTS] for name in tiny.CLASSES]
    rows = [torch.tensor(text.input.decode(each))[None] for own in filled for each in own]
    task = load(data, net.input)
    images = torch.from_numpy(net.input.feed(np.asarray(task.test.rows)[:4]))
    with torch.no_grad():
        each = torch.cat([model(input_ids=row.long(), pixel_values=images).text_embeds for row in rows])
        table = torch.nn.functional.normalize(each.view(len(filled), 2, -1).mean(1), dim=1)
        embedded = model(input_ids=rows[0].long(), pixel_values=images).image_embeds
        expected = model.logit_scale.exp() * embedded @ table.T
    torch.testing.assert_close(net(images), expected, rtol=0, atol=1e-4)
    assert "accuracy/test" in {row.name for row in zero_shot.manifest.report.rows}
    assert zero_shot.manifest.report["temperature"].value == pytest.approx(np.exp(-2))


@pytest.mark.slow
def test_two_files_answer_as_transformers_does(zero_shot, source, data, tmp_path):
    files = tiny.stage("export", zero_shot, tmp_path / "onnx", data, int8=False)
    assert files.manifest.report["captions/parity/agreement"].value == 100
    texts = Model(files.path / "text" / "model.onnx")
    with torch.no_grad():
        ids = torch.tensor(texts.input.decode("a red cat"))[None].long()
        expected = source[0](input_ids=ids, pixel_values=torch.zeros(1, 3, 16, 16)).text_embeds
    np.testing.assert_allclose(embed(texts, ["a red cat"]), expected.numpy(), atol=1e-5)


def test_names_of_classes_are_embedded_by_the_text_tower_alone(source, zero_shot, tmp_path):
    folder = source[1].source.removeprefix("clip:")
    effxfer.embed_classes(tiny.CLASSES, f"hf:{folder}", out=tmp_path / "classes.csv", prompts=PROMPTS)
    table = np.genfromtxt(tmp_path / "classes.csv", delimiter=",", skip_header=1)[:, 1:]
    np.testing.assert_allclose(table, zero_shot.net().head.table.numpy(), atol=1e-5)


def test_the_image_tower_is_a_backbone_as_any_other(source, data, tmp_path):
    dense = tiny.stage("finetune", source[1], tmp_path / "dense", data, strategy="simpleshot", options={}, fit={})
    assert dense.net().text is None


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["prune channels", "clip", "prune lottery"])
def test_its_image_tower_is_made_smaller_and_the_space_stays(stage, zero_shot, data, tmp_path):
    if stage == "clip":
        changes = {"towers": "both", "fit": {"epochs": 1, "lr": 1e-4}, "batch": 12, "prompts": PROMPTS}
        assert tiny.stage("clip", zero_shot, tmp_path / "out", data, **changes).net().text is not None
        return
    smaller = tiny.stage(stage, zero_shot, tmp_path / "out", data)
    assert smaller.net().text is not None


def test_augmentation_without_training_is_refused(source, data, tmp_path):
    with pytest.raises(SettingsError, match="opens pretrained towers"):
        tiny.stage("clip", source[1].model_copy(update={"pretrained": False}), tmp_path / "out", data)
