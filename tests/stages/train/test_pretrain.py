"""Pretraining on texts without labels, as a stage."""

import pytest
import torch

pytest.importorskip("tokenizers")

from effxfer.data.load import load
from effxfer.data.settings import DataSettings
from effxfer.errors import DataError, SettingsError
from effxfer.net.settings import ENCODER, BackboneSettings
from effxfer.net.text.masked_head import masked_head
from effxfer.runtime.text.tokens import TOKENIZER
from tests import tiny
from tests.data.text_files import texts, write_lines

ARGS = {"vocabulary": 80, "width": 24, "layers": 2, "heads": 3, "mlp": 48}
NEW = BackboneSettings(source=ENCODER, args=ARGS, size=24, pretrained=False)
PRETRAIN = {"options": {"batch": 16}, "fit": {"epochs": 2, "lr": 0.01, "warmup": 0.0}}
FINETUNE = {"options": {"batch": 8}, "fit": {**tiny.FIT, "epochs": 6}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    folder.joinpath("alone.txt").write_text("".join(f"{text}\n" for text, _ in texts(100, seed=3)))
    write_lines(folder / "labelled.txt", texts(80))
    return folder


@pytest.fixture(scope="module")
def alone(place):
    return DataSettings(source=str(place / "alone.txt"), labels="none")


@pytest.fixture(scope="module")
def labelled(place):
    return DataSettings(source=str(place / "labelled.txt"), val_fraction=0.2, test_fraction=0.2)


@pytest.fixture(scope="module")
def pretrained(place, alone):
    return tiny.stage("pretrain", NEW, place / "own", alone, **PRETRAIN)


def test_a_new_encoder_has_its_tokenizer_its_head_and_its_scores(pretrained):
    net = pretrained.net()
    assert (pretrained.path / TOKENIZER).is_file()
    assert masked_head(net) is not None
    report = pretrained.manifest.report
    assert report["accuracy/test"].of == "masked tokens"
    assert 1 < report["perplexity/val"].value < 80
    assert any("WordPiece tokenizer" in note for note in report.notes)


def test_it_is_the_same_to_the_bit_when_it_is_made_again(pretrained, alone, tmp_path):
    again = tiny.stage("pretrain", NEW, tmp_path / "again", alone, **PRETRAIN)
    assert again.manifest.key == pretrained.manifest.key
    for name in ("weights.safetensors", TOKENIZER):
        assert again.manifest.files[name] == pretrained.manifest.files[name]


def test_later_stages_take_it_as_their_backbone(pretrained, labelled, tmp_path):
    tuned = tiny.stage("finetune", pretrained, tmp_path / "tuned", labelled, **FINETUNE)
    assert tuned.net().input == pretrained.net().input
    assert tuned.manifest.report["accuracy/test"].value > 80
    assert tuned.net().classes == ("bad", "good")


def test_labelled_texts_serve_as_well(labelled, pretrained, tmp_path):
    own = tiny.stage("pretrain", pretrained, tmp_path / "own", labelled, **PRETRAIN)
    assert own.manifest.report["perplexity/val"].value < 80


def test_weights_in_half_precision_take_half_the_room_and_score_as_they_are_stored(pretrained, alone, tmp_path):
    half = tiny.stage("pretrain", NEW, tmp_path / "half", alone, **PRETRAIN, precision="float16")
    size = [artifact.path.joinpath("weights.safetensors").stat().st_size for artifact in (half, pretrained)]
    assert size[0] < 0.6 * size[1]
    net = half.net()
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    again = tiny.stage("pretrain", half, tmp_path / "again", alone, **{**PRETRAIN, "fit": {"epochs": 0}})
    assert again.manifest.report["perplexity/val"].value == half.manifest.report["perplexity/val"].value


def test_stages_that_need_labels_refuse_texts_alone(pretrained, alone, tmp_path):
    with pytest.raises(SettingsError, match="strategy 'full' needs labels, and alone has none") as caught:
        tiny.stage("finetune", pretrained, tmp_path / "x", alone, **FINETUNE)
    assert "effxfer pretrain" in caught.value.hint


def test_other_strategies_are_refused_before_anything_is_loaded(pretrained, alone, tmp_path):
    with pytest.raises(SettingsError, match="no strategy 'full'"):
        tiny.stage("pretrain", pretrained, tmp_path / "x", alone, strategy="full")
    with pytest.raises(SettingsError, match="no strategy 'mlm'"):
        tiny.stage("finetune", pretrained, tmp_path / "x", alone, strategy="mlm")


def test_texts_are_refused_by_strategies_of_images(pretrained, alone, tmp_path):
    with pytest.raises(SettingsError, match="strategy 'simclr' does not learn from texts") as caught:
        tiny.stage("pretrain", pretrained, tmp_path / "x", alone, strategy="simclr")
    assert caught.value.hint == "strategies that learn from texts: mlm"


def test_images_are_refused(dense, data, tmp_path):
    with pytest.raises(SettingsError, match="strategy 'mlm' does not learn from images"):
        tiny.stage("pretrain", dense, tmp_path / "x", data, **PRETRAIN, strategy="mlm")


def test_a_network_of_texts_alone_is_not_exported_as_an_answer(pretrained, labelled, tmp_path):
    with pytest.raises(DataError, match="the network knows labels of kind 'masked'"):
        tiny.stage("export", pretrained, tmp_path / "x", labelled, int8=False)


@pytest.mark.parametrize("file", ["alone.txt", "alone.csv", "alone.jsonl"])
def test_texts_without_labels_are_read_from_every_format(place, pretrained, file):
    rows = [text for text, _ in texts(100, seed=3)]
    if file.endswith(".csv"):
        place.joinpath(file).write_text("text\n" + "".join(f'"{text}"\n' for text in rows))
    if file.endswith(".jsonl"):
        place.joinpath(file).write_text("".join(f'{{"text": "{text}"}}\n' for text in rows))
    task = load(DataSettings(source=str(place / file), labels="none"), pretrained.net().input)
    assert len(task.train) + len(task.val) + len(task.test) == 200
    assert task.output.kind == "masked"
    assert set(task.train.labels.tolist()) == {-1}
    first = int(task.train.names[0].rpartition(":")[2]) - (2 if file.endswith(".csv") else 1)
    assert task.train.rows.row(0).tolist() == task.input.decode(rows[first]).tolist()


def test_label_columns_beside_no_labels_are_refused():
    with pytest.raises(ValueError, match="label_columns has no effect with labels = 'none'"):
        DataSettings(source="x.csv", labels="none", label_columns=("a",))
