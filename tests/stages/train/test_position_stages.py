"""Tags and answers the whole way: from a text encoder in a folder to the places that the runtime names."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from effxfer.artifact import Artifact
from effxfer.data.load import load, scan
from effxfer.data.settings import DataSettings
from effxfer.data.text_input import fit_input
from effxfer.deploy.bundle.web_library import TOKENIZERS_WEB, WebFiles
from effxfer.errors import SettingsError
from effxfer.net.backbones.pretrained import open_backbone
from effxfer.net.settings import BackboneSettings
from effxfer.runtime.__main__ import main
from effxfer.runtime.model import Model
from effxfer.runtime.outputs.positions import restrict_outputs
from effxfer.runtime.outputs.span import Span
from effxfer.runtime.outputs.text_answers import _answer, read_positions
from effxfer.runtime.text.pattern import PAIR
from effxfer.runtime.text.tokens import Tokens
from effxfer.settings import build
from effxfer.stages.deliver import bundle as bundle_stage
from effxfer.stages.deliver import export as export_stage
from effxfer.train.evaluate import predict
from effxfer.train.state import Work
from effxfer.transfer import STRATEGIES
from tests import tiny
from tests.data.template_encoder import write_encoder
from tests.data.templates import PEOPLE, PLACES, write_conll, write_questions
from tests.runtime.text.tiny_tokenizers import byte_level
from tests.transfer.tasks import CPU, adapt

OPTIONS, FIT = {"batch": 16}, {**tiny.FIT, "lr": 2e-3, "keep": "best"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("positions")
    write_encoder(folder / "encoder")
    write_conll(folder / "names.conll", 300)
    write_questions(folder / "questions.json", 400)
    return folder


def data_of(place, kind) -> DataSettings:
    file = {"tags": "names.conll", "span": "questions.json"}[kind]
    return DataSettings(source=str(place / file), labels=kind)


def backbone(place, size=64) -> BackboneSettings:
    return BackboneSettings(source=f"hf:{place / 'encoder'}", size=size)


def finetune(place, out, kind, epochs, size=64, **changes) -> Artifact:
    told = {"options": OPTIONS, "fit": {**FIT, "epochs": epochs}, **changes}
    return tiny.stage("finetune", backbone(place, size), out, data_of(place, kind), **told)


@pytest.fixture(scope="module")
def tagged(place) -> Artifact:
    return finetune(place, place / "tagged", "tags", 6)


@pytest.fixture(scope="module")
def asked(place) -> Artifact:
    return finetune(place, place / "asked", "span", 2)


@pytest.fixture(scope="module")
def tagged_file(tagged, place):
    settings = {"recipes": ["dynamic-7bit"], "latency_seconds": 0.2, "max_drop": 5.0}
    return tiny.stage("export", tagged, place / "tagged-file", data_of(place, "tags"), **settings)


@pytest.fixture(scope="module")
def asked_file(asked, place):
    return tiny.stage("export", asked, place / "asked-file", data_of(place, "span"), int8=False)


def test_names_of_several_pieces_are_found_and_not_by_an_untrained_head(tagged, place):
    report = tagged.manifest.report
    assert report["F1/test"].value >= 95
    assert report["F1/test"].of == "entities"
    assert report["F1 PER/test"].value >= 95
    null = finetune(place, place / "null", "tags", 0).manifest.report
    assert null["F1/test"].value < 30


@pytest.mark.slow
def test_answers_are_found_and_not_by_an_untrained_head(place):
    report = finetune(place, place / "answers", "span", 14).manifest.report
    assert report["exact match/test"].value >= 90
    assert report["F1/test"].value >= report["exact match/test"].value
    assert report["F1 unanswerable/test"].value >= 50
    null = finetune(place, place / "null-span", "span", 0).manifest.report
    assert null["exact match/test"].value < 30


def test_every_check_of_the_file_has_a_row(tagged_file, asked_file):
    for exported, metric in ((tagged_file, "F1"), (asked_file, "F1")):
        report = exported.manifest.report
        names = {row.name.partition("/")[2] for row in report.rows if row.name.startswith("parity/")}
        assert {"batch1", "batch2", "batch7", "batch32", "length8", "length33", "length64", "alone"} <= names
        assert max(report[f"parity/{name}"].value for name in names - {"scale", "agreement"}) < 1e-3
        assert report["parity/agreement"].value == 100
        assert report[f"{metric}/test/fp32"].value == pytest.approx(report[f"{metric}/test/torch"].value)
    assert any(row["recipe"] == "dynamic-7bit" for row in tables(tagged_file)["int8 recipes"])


def tables(exported) -> dict[str, tuple]:
    return {table.title: table.rows for table in exported.manifest.report.tables}


def file_of(exported):
    return exported.path / "model.onnx"


def test_the_runtime_names_entities_by_their_places(tagged_file):
    model = Model(file_of(tagged_file), threads=1)
    assert model.metadata.input.stride == 16
    text = "Anna  Björk flew from San  Sebastián to Zürich ."
    (prediction,) = model.predict([text])
    assert [(e.text, e.type) for e in prediction.entities] == [
        ("Anna  Björk", "PER"), ("San  Sebastián", "LOC"), ("Zürich", "LOC"),
    ]  # fmt: skip
    assert all(text[e.start : e.end] == e.text and 0 < e.probability <= 1 for e in prediction.entities)
    words = text.split()
    (of_words,) = model.predict([words])
    assert len(of_words.tags) == len(words)
    assert [(e.start, e.end) for e in of_words.entities] == [(0, 2), (4, 6), (7, 8)]
    assert of_words.to_json()["tags"][:3] == ["B-PER", "I-PER", "O"]
    assert model.predict([""])[0].entities == ()


def test_a_long_text_is_read_in_windows(tagged_file):
    model = Model(file_of(tagged_file), threads=1)
    sentences = [f"{person} flew from {place} to {place} ." for person in PEOPLE for place in PLACES]
    (prediction,) = model.predict([" ".join(sentences)])
    assert len(prediction.entities) == pytest.approx(3 * len(sentences), abs=6)
    alone = model.predict(sentences)
    assert sum(len(each.entities) for each in alone) == pytest.approx(3 * len(sentences), abs=6)


def test_the_runtime_answers_as_the_network_does(asked_file, asked, place):
    model, net = Model(file_of(asked_file), threads=1), asked.net()
    settings = data_of(place, "span")
    task = load(settings, net.input)
    raw = restrict_outputs(predict(net, task.test.rows, net.input, CPU).numpy(), task.test.labels)
    decided = net.output.decide(raw)
    questions = {
        q["id"]: (q["question"], p["context"])
        for article in json.loads((place / "questions.json").read_text())["data"]
        for p in article["paragraphs"]
        for q in p["qas"]
    }
    sources = [questions[name.partition(":")[2]] for name in task.test.names]
    for prediction, source, (first, last) in zip(model.predict(sources), sources, decided.tolist(), strict=True):
        spans = model.tokens.encode([source], spans=True).spans
        expected = (None, None) if first < 0 else (int(spans[first, 0]), int(spans[last, 1]))
        assert (prediction.start, prediction.end) == expected
        assert prediction.text == (None if first < 0 else source[1][prediction.start : prediction.end])


def test_the_command_prints_places(tagged_file, asked_file, capsys):
    assert main([str(file_of(tagged_file)), "--text", "Carlos  Müller saw Anna Björk ."]) == 0
    row = json.loads(capsys.readouterr().out)
    assert [(e["start"], e["end"]) for e in row["entities"]] == [(0, 14), (19, 29)]
    assert main([str(file_of(asked_file)), "--text", "Who was it?", "--pair", "The mayor met Anna  Björk ."]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row.keys() == {"text", "other", "answer", "start", "end", "probability"}
    assert main([str(file_of(asked_file)), "--text", "Who was it?"]) == 3


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("bitfit", "freeze", "l2_sp", "lp_ft", "unfreeze")]


@pytest.mark.parametrize("name", ["full", "lora", "probe", "prompts", *SLOW])
def test_strategies_learn_tags(place, tmp_path, name):
    report = finetune(place, tmp_path / "x", "tags", 1, strategy=name).manifest.report
    assert 0 <= report["F1/test"].value <= 100


@pytest.mark.parametrize("name", ["lora", "probe"])
def test_strategies_learn_answers(place, tmp_path, name):
    report = finetune(place, tmp_path / "x", "span", 1, strategy=name).manifest.report
    assert report["exact match/test"].of == "questions"


@pytest.mark.parametrize(("kind", "name"), [("tags", "bss"), ("tags", "setfit"), ("span", "delta"), ("span", "lp_ft")])
def test_strategies_that_need_one_vector_for_an_example_are_refused(place, tmp_path, kind, name):
    with pytest.raises(SettingsError, match=rf"strategy '{name}' learns labels of kind .* the data hold kind '{kind}'"):
        finetune(place, tmp_path / "x", kind, 1, strategy=name, options={})


def test_a_learning_curve_is_refused_before_anything_is_loaded(tagged, place, tmp_path):
    with pytest.raises(SettingsError, match=r"needs labels of kind single, .* holds kind 'tags'"):
        tiny.stage("curve", tagged, tmp_path / "x", data_of(place, "tags"))


def test_a_head_search_is_refused(tagged, place, tmp_path):
    with pytest.raises(SettingsError, match="search judges heads on one vector"):
        tiny.stage("search", tagged, tmp_path / "x", data_of(place, "tags"))


@pytest.mark.parametrize("kind", ["tags", pytest.param("span", marks=pytest.mark.slow)])
def test_a_bundle_says_and_shows_what_it_answers(tagged, asked, place, tmp_path, monkeypatch, kind):
    library = WebFiles(library=TOKENIZERS_WEB, version="0", files={TOKENIZERS_WEB.files[0]: b""})
    monkeypatch.setattr(export_stage, "find_libraries", lambda *_: (library,))
    monkeypatch.setattr(bundle_stage, "find_difference", lambda *_: None)
    settings = {"int8": False, "bundle": True, "hf_inputs": True, "latency_seconds": 0.2}
    net = {"tags": tagged, "span": asked}[kind]
    made = tiny.stage("export", net, tmp_path / "x", data_of(place, kind), **settings)
    assert made.manifest.report["F1/hf/fp32"].value == made.manifest.report["F1/ids/fp32"].value
    folder = made.path / "bundle"
    card = (folder / "README.md").read_text()
    assert {"tags": "token-classification", "span": "question-answering"}[kind] in card
    assert "classes" not in card
    assert ("exact match/test" in card) == (kind == "span")
    facts = json.loads((folder / "model.json").read_text())
    assert facts["tokens"]["places"] == {"tags": "words", "span": "tokens"}[kind]
    assert (folder / "positions.js").is_file()
    words = {"tags": ["Anna Björk flew to Zürich ."], "span": ["Where was it?", "It rained in Zürich."]}[kind]
    command = [sys.executable, "example.py", *words]
    said = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=True).stdout
    assert said.strip() == ("Anna Björk (PER), Zürich (LOC)" if kind == "tags" else said.strip())
    assert said.strip()


def test_an_answer_has_no_blanks_around_it():
    tokens = Tokens(tokenizer=byte_level(), size=60, pad=1, pattern=PAIR)
    reading = read_positions(tokens, Span(), ("what", "the cat  sat."))
    raw = np.zeros((1, len(reading.encodings.rows.values), 2), np.float32)
    raw[0, [7, 9], [0, 1]] = 9.0
    (answer,) = [_answer(Span(), reading, raw, 0)]
    assert (answer.text, answer.start, answer.end) == ("cat  sat", 4, 12)


@pytest.mark.parametrize("kind", ["tags", "span"])
def test_a_network_is_pruned_with_a_teacher(tagged, asked, place, tmp_path, kind):
    net = {"tags": tagged, "span": asked}[kind]
    changes = {"options": OPTIONS, "fit": {**FIT, "epochs": 1}, "teacher": 0.5}
    result = tiny.stage("prune channels", net, tmp_path / "x", data_of(place, kind), **changes)
    assert result.manifest.report["F1/test"].value > 10


def test_a_window_of_another_size_is_tokenized_again(tagged, place, tmp_path):
    told = {"options": OPTIONS, "fit": {**FIT, "epochs": 1}, "size": 24}
    later = tiny.stage("finetune", tagged, tmp_path / "x", data_of(place, "tags"), **told)
    assert later.manifest.report["F1/test"].value > 80
    assert later.net().input.size == 24


class KilledError(Exception):
    pass


@pytest.mark.parametrize(("kind", "name"), [("tags", "full"), ("tags", "lora"), ("span", "full")])
def test_training_goes_on_bit_for_bit_after_it_was_killed(place, tmp_path, kind, name):
    settings, strategy = data_of(place, kind), build(STRATEGIES[name], OPTIONS, "options")
    listing = scan(settings)

    def start():
        torch.manual_seed(0)
        net, _ = open_backbone(backbone(place))
        net.input = fit_input(net.input, listing)
        return net

    def kill(done):
        if done == 20:
            raise KilledError

    task = load(settings, start().input)
    _, _, whole, rows = adapt(strategy, task, net=start(), work=Work(tmp_path / "whole"), epochs=2)
    with pytest.raises(KilledError):
        adapt(strategy, task, net=start(), work=Work(tmp_path / "parts"), after=kill, epochs=2)
    _, _, parts, told = adapt(strategy, task, net=start(), work=Work(tmp_path / "parts"), epochs=2)
    assert [row["loss"] for row in told] == [row["loss"] for row in rows]
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_answers_do_not_depend_on_neighbours(tagged_file, place):
    model = Model(file_of(tagged_file), threads=1)
    rows = load(data_of(place, "tags"), model.tokens).val.rows
    assert np.abs(model.logits(rows, batch=1) - model.logits(rows, batch=32)).max() < 1e-4


def test_the_file_says_what_it_gives(tagged_file, asked_file):
    for exported, kind in ((tagged_file, "tags"), (asked_file, "span")):
        model = Model(file_of(exported), threads=1)
        assert model.output.kind == kind
        assert re.fullmatch("[0-9a-f]+", model.metadata.key)
    assert Model(file_of(asked_file), threads=1).output.threshold != ()
