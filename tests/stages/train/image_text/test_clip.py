"""From pairs to two files that share a space, by the command line's way."""

import json
import shutil

import numpy as np
import pytest

import effxfer
from effxfer.artifact import Artifact
from effxfer.data.load import load
from effxfer.errors import DataError, SettingsError
from effxfer.runtime.__main__ import main
from effxfer.runtime.class_tables.class_table import read_class_table
from effxfer.runtime.class_tables.embed import embed, embed_rows
from effxfer.runtime.model import Model, ModelError
from effxfer.runtime.text.errors import TextError
from effxfer.stages.train.image_text import clip as module
from effxfer.stages.train.image_text.clip import clip
from effxfer.stages.train.image_text.pairs import require_pairs
from effxfer.train.state import Work
from tests import tiny
from tests.tiny_text import text_net
from tests.transfer.tasks import CPU

FIT = {"epochs": 10, "lr": 0.01, "warmup": 0.0}
PROMPTS = ["a {} thing", "something {}"]


def trained(out, data, **changes):
    return tiny.stage("clip", tiny.BACKBONE, out, data, **{"prompts": PROMPTS, "fit": FIT, **changes})


@pytest.fixture(scope="module")
def pair(data, tmp_path_factory) -> Artifact:
    return trained(tmp_path_factory.mktemp("clip") / "net", data, width=16, shuffles=3)


@pytest.fixture(scope="module")
def files(pair, data, tmp_path_factory) -> Artifact:
    return tiny.stage("export", pair, tmp_path_factory.mktemp("files") / "onnx", data, int8=False)


def test_it_learns_what_mixed_up_captions_do_not_teach(pair):
    report = pair.manifest.report
    for name in ("recall@1/image to text/val", "accuracy/val"):
        assert report[name].value > report[f"{name} shuffled"].high + 20
    assert report["accuracy/test"].value > 80
    assert report["recall@1/text to image/val"].n == 2 * len(tiny.CLASSES)


def test_the_text_tower_lies_beside_and_goes_along(pair, data, tmp_path):
    net = pair.net()
    assert net.text is not None
    assert net.classes == net.text.net.classes == tiny.CLASSES
    np.testing.assert_array_equal(net.head.table, net.text.net.head.table)
    assert "text/tokenizer.json" in pair.manifest.files
    smaller = tiny.stage("prune channels", pair, tmp_path / "small", data)
    assert smaller.net().text is not None, "channels of the image tower leave, the space stays"
    assert smaller.net().text.net.state_dict().keys() == net.text.net.state_dict().keys()


def test_another_head_has_no_text_tower(pair, data, tmp_path):
    other = tiny.stage("finetune", pair, tmp_path / "out", data, strategy="simpleshot", options={}, fit={})
    assert other.net().text is None
    assert not (other.path / "text").exists()


def test_both_files_share_the_space(files, pair, data):
    report = files.manifest.report
    told = pair.manifest.report
    for name in ("recall@1/image to text/val", "recall@1/text to image/val"):
        assert report[f"{name}/fp32"].value == pytest.approx(told[name].value)
    assert report["captions/parity/agreement"].value == 100
    assert report["captions/accuracy/val/fp32"].n == 2 * len(tiny.CLASSES), "prompts of the training travel along"
    images, texts = Model(files.path / "model.onnx"), Model(files.path / "text" / "model.onnx")
    task = load(data, images.input)
    cosines = embed_rows(images, np.asarray(task.test.rows)) @ embed(texts, [f"a {n} thing" for n in tiny.CLASSES]).T
    assert 100 * (cosines.argmax(1) == task.test.labels).mean() == pytest.approx(told["accuracy/test"].value, abs=20)


@pytest.mark.slow
def test_int8_files_share_the_space(pair, data, tmp_path):
    changes = {"int8": True, "recipes": ["u8s8-7bit", "dynamic-7bit"], "latency_seconds": 1.0}
    report = tiny.stage("export", pair, tmp_path / "onnx", data, **changes).manifest.report
    for way in ("image to text", "text to image"):
        name = f"recall@1/{way}/val"
        assert report[f"{name}/int8"].value >= report[f"{name}/fp32"].value - 20


def test_classes_are_named_on_the_device(files, folder, tmp_path, capsys):
    out, photos = tmp_path / "classes.csv", sorted((folder / "red").iterdir())[:6]
    effxfer.embed_classes(["red", "blue"], str(files.path / "text" / "model.onnx"), out=out, prompts=PROMPTS)
    assert main([str(files.path / "model.onnx"), *map(str, photos), "--classes", str(out)]) == 0
    labels = [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()]
    assert labels.count("red") > 3
    by_torch = tmp_path / "torch.csv"
    effxfer.embed_classes(["red", "blue"], str(files.path / "text"), out=by_torch, prompts=PROMPTS)
    first, second = (np.genfromtxt(file, delimiter=",", skip_header=1)[:, 1:] for file in (out, by_torch))
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_a_text_finds_images(files, folder, tmp_path):
    photos = [str(file) for colour in tiny.CLASSES for file in sorted((folder / colour).iterdir())[:3]]
    effxfer.embed_classes(photos, str(files.path / "model.onnx"), out=tmp_path / "photos.csv")
    table = read_class_table(tmp_path / "photos.csv")
    finder = Model(files.path / "text" / "model.onnx").with_classes(table.values, table.names)
    (nearest,) = finder.predict(["a red thing"], top=3)
    assert sum("/red/" in name for name, _ in nearest.top) >= 2


def test_a_file_without_a_space_embeds_nothing(exported):
    with pytest.raises(ModelError, match="no space of embeddings"):
        embed(Model(exported.path / "model.onnx"), [np.zeros((16, 16, 3), np.uint8)])


def test_another_tokenizer_is_refused(files, tmp_path):
    copy = shutil.copytree(files.path / "text", tmp_path / "text")
    tokenizer = copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"the"', '"thq"', 1))
    with pytest.raises((ModelError, TextError)) as caught:
        Model(copy / "model.onnx")
    assert caught.value.code == "E446"


@pytest.mark.parametrize("towers", ["image", "text", "both"])
def test_towers_are_trained_too(towers, data, tmp_path):
    fit = {"epochs": 2, "lr": 1e-3, "warmup": 0.0}
    result = trained(tmp_path / "out", data, towers=towers, width=8, batch=12, fit=fit, objective="sigmoid")
    assert result.manifest.report["accuracy/val"].n == 12
    assert any("mixed-up" in note for note in result.manifest.report.notes)
    assert result.net().text is not None


def test_a_run_that_was_cut_off_ends_with_the_same_bytes(data, tmp_path, monkeypatch):
    changes = {"width": 8, "shuffles": 2, "fit": {**FIT, "epochs": 3}}
    whole, labels = trained(tmp_path / "whole", data, **changes), list[str]()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module, "fit", tiny.cut_off(module.fit, labels, 2))
        trained(tmp_path / "resumed", data, **changes)
    again = trained(tmp_path / "resumed", data, **changes)
    assert again.manifest.files["weights.safetensors"] == whole.manifest.files["weights.safetensors"]
    assert again.manifest.files["text/weights.safetensors"] == whole.manifest.files["text/weights.safetensors"]
    assert again.manifest.report["accuracy/val shuffled"] == whole.manifest.report["accuracy/val shuffled"]


def test_a_trained_pair_takes_other_classes_without_training(pair, data, tmp_path):
    changes = {"prompts": ["something {}"], "fit": {"epochs": 0}, "shuffles": 3}
    result = tiny.stage("clip", pair, tmp_path / "out", data, **changes)
    report = result.manifest.report
    assert report["accuracy/val"].value == pytest.approx(pair.manifest.report["accuracy/val"].value, abs=20)
    assert "accuracy/val shuffled" not in {row.name for row in report.rows}
    np.testing.assert_array_equal(*(each.net().head.map.weight.detach() for each in (result, pair)))
    assert report["temperature"].value == pytest.approx(pair.manifest.report["temperature"].value)


def test_one_caption_teaches_nothing():
    with pytest.raises(DataError) as caught:
        require_pairs([(0,), (0,)], "pairs")
    assert caught.value.code == "E347"


def test_settings_that_do_not_suit_are_refused(data, tmp_path):
    with pytest.raises(SettingsError, match="augment has no effect"):
        trained(tmp_path / "a", data, augment={"flip": False})
    with pytest.raises(SettingsError, match=r"has no \{\}"):
        trained(tmp_path / "b", data, prompts=["a photo"])
    with pytest.raises(SettingsError, match="takes images"):
        trained(tmp_path / "c", data, text="resnet20-cifar10")
    with pytest.raises(SettingsError, match="starts from a network of images"):
        clip(text_net(), [], tiny.settings_of("clip"), device=CPU, work=Work(None))
