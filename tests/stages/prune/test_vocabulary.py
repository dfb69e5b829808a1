"""`prune vocabulary` on a data set of texts, before and after fine-tuning, and what comes behind it."""

import json
import re

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

import effxfer as ex
from effxfer.artifact import Artifact
from effxfer.data.continual.memory import Memory
from effxfer.data.load import load
from effxfer.data.settings import DataSettings
from effxfer.deploy.export.logits import torch_logits
from effxfer.errors import SettingsError
from effxfer.net.settings import BackboneSettings
from effxfer.prune.vocabulary.vocabulary import prune_vocabulary, used_tokens
from effxfer.runtime.model import Model
from effxfer.runtime.text.tokens import TOKENIZER
from effxfer.stages import STAGES
from effxfer.stages.settings.prune_settings import Vocabulary
from effxfer.transfer.regularized.distill import divergence
from tests import tiny
from tests.data.text_files import texts, write_lines
from tests.net.text.folders import VOCABULARY, write_folder

STAGE = "prune vocabulary"
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
    tokenizer = folder / "bert" / TOKENIZER
    raw = json.loads(tokenizer.read_text())
    more = {"type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    tokenizer.write_text(json.dumps({**raw, "model": {**raw["model"], **more}}))
    return folder


@pytest.fixture(scope="module")
def reviews(place):
    return DataSettings(source=str(place / "reviews.txt"), val_fraction=0.2, test_fraction=0.2)


@pytest.fixture(scope="module")
def dense(place, reviews) -> Artifact:
    return tiny.stage("finetune", backbone(place), place / "dense", reviews, options=PLAIN, fit={**FIT, "epochs": 4})


@pytest.fixture(scope="module")
def small(place, dense, reviews) -> Artifact:
    return tiny.stage(STAGE, dense, place / "small", reviews)


def backbone(place) -> BackboneSettings:
    return BackboneSettings(source=f"hf:{place / 'bert'}", size=20)


def test_the_training_texts_are_answered_equally_by_a_smaller_network(dense, small, reviews):
    before, after = dense.net(), small.net()
    for split in ("train", "val"):
        old, new = (getattr(load(reviews, net.input), split).rows for net in (before, after))
        assert (torch_logits(before, old, before.input) == torch_logits(after, new, after.input)).all()
    report = small.manifest.report
    kept = after.body.embeddings.tokens.num_embeddings
    assert kept < VOCABULARY
    assert (report["tokens/kept"].value, report["tokens/kept"].n) == (
        pytest.approx(100 * kept / VOCABULARY),
        VOCABULARY,
    )
    assert report["parameters/after"].value < report["parameters/before"].value
    assert report["covered/val"].value == 100
    assert report["accuracy/val"].value == report["accuracy/val/before"].value
    assert (small.path / TOKENIZER).read_bytes() == after.input.tokenizer != before.input.tokenizer


def test_claim_the_tokens_that_texts_use_matter_and_as_many_others_do_not(dense, reviews):
    scores = {}
    used = used_tokens([load(reviews, dense.net().input).train.rows])
    unused = np.setdiff1d(np.arange(VOCABULARY), used)[: len(used)]
    for name, ids in (("used", used), ("unused", unused)):
        net = dense.net()
        prune_vocabulary(net, ids.tolist())
        split = load(reviews, net.input).val
        scores[name] = 100 * float((torch_logits(net, split.rows, net.input).argmax(1) == split.labels).mean())
    assert scores["used"] == pytest.approx(dense.manifest.report["accuracy/val"].value)
    assert scores["unused"] < scores["used"] - 10


def test_rare_tokens_leave_and_their_texts_are_no_longer_covered(dense, reviews, tmp_path):
    few = tiny.stage(STAGE, dense, tmp_path / "few", reviews, min_count=60)
    assert few.manifest.report["covered/val"].value < 100
    assert few.manifest.report["tokens/kept"].value < 100
    with pytest.raises(SettingsError, match="no token occurs 1000000 times"):
        tiny.stage(STAGE, dense, tmp_path / "none", reviews, min_count=1_000_000)


def test_it_comes_before_fine_tuning_too(place, reviews, tmp_path):
    bare = tiny.stage(STAGE, backbone(place), tmp_path / "bare", reviews)
    assert bare.manifest.classes == ()
    assert "accuracy/val" not in [row.name for row in bare.manifest.report.rows]
    tuned = tiny.stage("finetune", bare, tmp_path / "tuned", reviews, options=PLAIN, fit=FIT)
    assert [edit["kind"] for edit in tuned.manifest.edits] == ["prune_vocabulary", "set_head"]


@pytest.mark.slow
def test_tickets_adapters_and_exports_go_on_from_it(small, reviews, tmp_path):
    ticket = tiny.stage(
        "prune lottery", small, tmp_path / "ticket", reviews, sparsity=0.3, rounds=1, options=PLAIN, fit=FIT
    )
    loaded = ex.load_ticket(ticket.path)
    trained = ex.train_ticket(loaded, out=tmp_path / "trained", data=reviews, device="cpu")
    assert (trained.path / TOKENIZER).read_bytes() == (small.path / TOKENIZER).read_bytes()
    lora = tiny.stage("finetune", small, tmp_path / "lora", reviews, strategy="lora", options=PLAIN, fit=FIT)
    adapter = lora.path / "adapter.safetensors"
    applied = ex.apply_adapter(ex.load_adapter(adapter), small.path, out=tmp_path / "applied", data=reviews)
    assert applied.path.is_dir()
    exported = tiny.stage("export", lora, tmp_path / "onnx", reviews, int8=False, hf_inputs=True)
    assert exported.manifest.report["hf/batch32/fp32"].value < 1e-4
    assert "model.hf.onnx" in exported.manifest.files
    model = Model(exported.path / "model.onnx")
    assert model.tokens.tokenizer == small.net().input.tokenizer
    lengths = load(reviews, model.tokens).val.rows.lengths
    assert model.metadata.lengths == (sorted(lengths)[len(lengths) // 2], max(model.metadata.lengths))
    assert model.predict([in_vocabulary("the cat sat")])[0].label in exported.manifest.classes


def test_the_same_inputs_give_the_same_bytes(small, dense, reviews, tmp_path):
    again = tiny.stage(STAGE, dense, tmp_path / "again", reviews)
    assert json.loads((again.path / "manifest.json").read_text())["files"] == small.manifest.files


def test_images_are_refused_before_they_are_decoded(tmp_path, data):
    with pytest.raises(SettingsError, match="takes images has no vocabulary"):
        tiny.stage(STAGE, tiny.BACKBONE, tmp_path / "out", data)


def test_a_memory_of_former_texts_is_not_made_unreadable(dense):
    net, stage = dense.net(), STAGES[STAGE]
    stage.check(net, Vocabulary())
    net.memory = Memory(tasks=())
    with pytest.raises(SettingsError, match="memory holds texts") as caught:
        stage.check(net, Vocabulary())
    assert "before" in caught.value.hint


@pytest.mark.slow
def test_claim_a_teacher_with_the_whole_vocabulary_brings_its_student_nearer(dense, reviews, tmp_path):
    few = tiny.stage(STAGE, dense, tmp_path / "few", reviews, min_count=60)
    settings = {"options": PLAIN, "fit": {**FIT, "epochs": 12}}
    teacher = {"source": str(dense.path), "logits": 1.0}
    nets = [
        tiny.stage("finetune", few, tmp_path / name, reviews, **settings, **more).net()
        for name, more in (("alone", {}), ("taught", {"teacher": teacher}))
    ]
    wanted, *outputs = [
        torch.from_numpy(torch_logits(net, load(reviews, net.input).test.rows, net.input))
        for net in (dense.net(), *nets)
    ]
    far = [float(divergence(logits, wanted)) for logits in outputs]
    assert nets[1].input.digest != dense.net().input.digest
    assert far[1] < far[0]
