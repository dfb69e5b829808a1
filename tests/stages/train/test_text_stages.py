"""Stages on a data set of texts, from a text encoder in a folder of Hugging Face."""

import json
import re

import pytest

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from effxfer.artifact import Artifact
from effxfer.data.load import load
from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError
from effxfer.net.settings import BackboneSettings
from effxfer.runtime.text.tokens import TOKENIZER
from effxfer.settings import build
from effxfer.stages import STAGES
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.key import stage_key
from effxfer.stages.runner.run import preview
from effxfer.train.settings import default_lr
from tests import tiny
from tests.data.text_files import texts, write_lines
from tests.net.text.folders import write_folder

PLAIN, FIT = {"batch": 8}, {**tiny.FIT, "epochs": 2}
NAMES = ("cat", "sat", "the", "mat", "was", "great", *"abcdef")


def in_vocabulary(text: str) -> str:
    """The same text in the words of the folder's tokenizer."""
    return re.sub(r"\w+", lambda word: f"w{1 + NAMES.index(word[0])}", text)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    write_lines(folder / "reviews.txt", [(in_vocabulary(text), label) for text, label in texts(80)])
    (folder / "bert").mkdir()
    write_folder(folder / "bert")
    return folder


@pytest.fixture(scope="module")
def reviews(place):
    return DataSettings(source=str(place / "reviews.txt"), val_fraction=0.2, test_fraction=0.2)


@pytest.fixture(scope="module")
def dense(place, reviews) -> Artifact:
    return tiny.stage("finetune", backbone(place), place / "dense", reviews, options=PLAIN, fit={**FIT, "epochs": 6})


def backbone(place) -> BackboneSettings:
    return BackboneSettings(source=f"hf:{place / 'bert'}", size=20)


def test_a_model_directory_of_texts_has_its_tokenizer_and_its_report(dense, place, reviews):
    assert (dense.path / TOKENIZER).read_bytes() == (place / "bert" / TOKENIZER).read_bytes()
    score = dense.manifest.report["accuracy/test"]
    assert (score.n, score.of) == (32, "texts")
    assert score.value > 80
    task = load(reviews, dense.net().input)
    assert dense.net().input.decode_key() == task.input.decode_key()
    assert dense.manifest.data[0]["digest"] == task.digest
    splits = json.loads((dense.path / "splits.json").read_text())["records"][0]["images"]
    assert [len(splits[name]) for name in ("train", "val", "test")] == [96, 32, 32]


def test_the_same_inputs_have_the_same_key_and_others_another(dense, place, reviews):
    settings = tiny.settings_of("finetune", options=PLAIN, fit={**FIT, "epochs": 6})

    def key(data, size=20):
        source = backbone(place).model_copy(update={"size": size})
        return stage_key("finetune", settings, source, [data], RunContext(out=place / "x"))

    assert key(reviews) == dense.manifest.key
    assert key(reviews.model_copy(update={"split_seed": 1})) != dense.manifest.key
    assert key(reviews, size=24) != dense.manifest.key


@pytest.mark.parametrize(("strategy", "rate"), [("full", 3e-4), ("lora", 1e-3), ("setfit", 2e-5)])
def test_a_rate_that_is_left_open_is_that_of_texts(place, reviews, strategy, rate):
    settings = build(STAGES["finetune"].settings, {"strategy": strategy}, "finetune")
    planned = preview(STAGES["finetune"], settings, backbone(place), [reviews], RunContext(out=place / "planned"))
    assert planned["settings"]["fit"]["lr"] == default_lr("text", strategy) == rate


def test_a_later_stage_keeps_data_and_splits(dense, tmp_path):
    later = tiny.stage("finetune", dense, tmp_path / "later", None, options=PLAIN, fit=FIT)
    assert later.manifest.data[0]["digest"] == dense.manifest.data[0]["digest"]
    assert later.manifest.report["accuracy/test"].value > 80


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("compete", {"options": PLAIN, "fit": FIT}),
        ("curve", {"options": PLAIN, "fit": FIT}),
        ("finetune", {"options": PLAIN, "fit": FIT, "teacher": 0.5}),
        ("finetune", {"options": PLAIN, "fit": FIT, "size": 12}),
        ("prune channels", {"options": PLAIN, "fit": FIT, "reconstruct": True}),
        ("prune gradual", {"options": PLAIN, "fit": FIT}),
        ("prune lottery", {"options": PLAIN, "fit": FIT}),
        ("prune structured", {"options": PLAIN, "fit": FIT}),
        ("qat", {"options": PLAIN, "fit": FIT}),
        ("search", {}),
    ],
)
def test_stages_run_on_texts(dense, reviews, tmp_path, stage, changes):
    changes = {name: dict(value) if isinstance(value, dict) else value for name, value in changes.items()}
    result = tiny.stage(stage, dense, tmp_path / "out", reviews, **changes)
    assert result.manifest.report["accuracy/test"].of == "texts"
    assert result.net().input.kind == "text"
    assert (result.path / TOKENIZER).is_file()


def test_strategies_of_images_are_refused_before_training(place, reviews, tmp_path):
    with pytest.raises(SettingsError, match="strategy 'prototypes' needs images"):
        tiny.stage("finetune", backbone(place), tmp_path / "x", reviews, strategy="prototypes", options={})


def test_texts_for_a_network_of_images_are_refused_before_it_is_opened(place, reviews, tmp_path):
    with pytest.raises(SettingsError, match=r"this network takes images, and .* holds texts"):
        tiny.stage("finetune", BackboneSettings(source="timm:resnet18"), tmp_path / "x", reviews)
