"""Tasks whose labels are of words and of answers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from effxfer.data.batches.augment import Augment
from effxfer.data.batches.batches import make_batches
from effxfer.data.batches.collate import label_tensor
from effxfer.data.checks.audit import audit
from effxfer.data.history import History
from effxfer.data.load import load, scan
from effxfer.data.settings import DataSettings
from effxfer.data.task import subset
from effxfer.data.text_input import fit_input
from effxfer.errors import DataError
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.runtime.outputs.span import Span
from effxfer.runtime.outputs.tagging import UNLABELLED, Tagging
from effxfer.runtime.text.pattern import PAIR, SINGLE
from tests.data.templates import write_conll, write_questions
from tests.runtime.text.tiny_tokenizers import tokens


def settings(file, **options) -> DataSettings:
    kind = "span" if file.suffix == ".json" else "tags"
    return DataSettings(source=str(file), labels=kind, **options)


def load_task(file, tmp_path, size=40, **options):
    chosen = settings(file, **options)
    return load(chosen, fit_input(tokens(size=size), scan(chosen)), cache=tmp_path / "cache")


@pytest.fixture
def names(tmp_path):
    return write_conll(tmp_path / "names.conll", 60)


@pytest.fixture
def questions(tmp_path):
    return write_questions(tmp_path / "questions.json", 40)


def test_a_tagged_task_has_the_tag_of_every_word(names, tmp_path):
    task = load_task(names, tmp_path)
    assert task.output == Tagging(classes=("B-LOC", "B-PER", "I-LOC", "I-PER", "O"))
    assert [len(split) for split in (task.train, task.val, task.test)] == [48, 6, 6]
    sentences = [block.splitlines() for block in names.read_text().strip().split("\n\n")]
    by_line = dict(zip(np.cumsum([1, *(len(s) + 1 for s in sentences)]).tolist(), sentences, strict=False))
    for row in range(len(task.train)):
        words = [line.split() for line in by_line[int(task.train.names[row].partition(":")[2])]]
        expected = [task.classes.index(tag) for _, tag in words]
        assert [tag for tag in task.train.labels.tags[row] if tag != UNLABELLED] == expected
        assert task.train.rows.row(row).tolist() == tokens(size=40).encode([[w for w, _ in words]]).rows.row(0).tolist()
    assert task.train.groups.tolist() == list(range(48))


def test_long_sentences_are_read_in_windows_that_lose_no_word(names, tmp_path):
    whole, cut = load_task(names, tmp_path), load_task(names, tmp_path, size=10)
    assert len(cut.train) > len(whole.train)
    assert cut.input.stride == 2
    assert (cut.train.rows.lengths <= 10).all()
    assert (cut.train.labels.tags != UNLABELLED).sum() == (whole.train.labels.tags != UNLABELLED).sum()
    assert cut.digest == whole.digest
    assert sorted(set(cut.train.names)) == sorted(whole.train.names)
    assert not any("W358" in note for note in cut.notes)
    lost = load(settings(names), tokens(size=10), cache=tmp_path / "cache")
    assert any(note.startswith("W358 words that are cut off: ") for note in lost.notes)


def test_a_task_of_answers_has_their_places(questions, tmp_path):
    task = load_task(questions, tmp_path, size=60)
    assert (task.output, task.input.pattern, task.input.stride) == (Span(threshold=(0.0,)), PAIR, 15)
    by_name = {
        f"{questions.name}:{q['id']}": (q["question"], p["context"], q["answers"])
        for article in json.loads(questions.read_text())["data"]
        for p in article["paragraphs"]
        for q in p["qas"]
    }
    seen = 0
    for row, name in enumerate(task.train.names):
        question, context, answers = by_name[name]
        encoded = task.input.encode([(question, context)], spans=True)
        first, last = task.train.labels.places[row]
        if answers and first >= 0 and len(encoded.rows) == 1:
            start = answers[0]["answer_start"]
            assert encoded.spans[first, 0] == start
            assert encoded.spans[last, 1] == start + len(answers[0]["text"])
            seen += 1
        assert bool(answers) or (first, last) == (-1, -1)
    assert seen > 50


def test_questions_are_whole_in_every_window(questions, tmp_path):
    task = load_task(questions, tmp_path, size=14)
    split = task.train
    assert len(split) > len(set(split.names))
    for group in np.unique(split.groups)[:20]:
        rows = np.flatnonzero(split.groups == group)
        begin = split.labels.context[rows[0], 0]
        assert len({tuple(split.rows.row(int(row))[:begin].tolist()) for row in rows}) == 1
        ends = split.labels.offset[rows] + np.diff(split.labels.context[rows], axis=1)[:, 0]
        assert (split.labels.offset[rows][1:] == ends[:-1] - task.input.stride).all()


def test_documents_are_never_in_two_splits(tmp_path, questions):
    listing = scan(settings(questions))
    document = {}
    for item in listing.items:
        title = item.path.partition(":")[2].partition("-")[0]
        assert document.setdefault(title, item.split) == item.split
    file = write_conll(tmp_path / "d.conll", 60, documents=20)
    assert {item.split for item in scan(settings(file)).items} == {"train", "val", "test"}


def test_a_single_document_leaves_nothing_to_validate_on_and_the_hint_says_why(questions, tmp_path):
    content = json.loads(questions.read_text())
    content["data"] = [{"paragraphs": [each for article in content["data"] for each in article["paragraphs"]]}]
    questions.write_text(json.dumps(content))
    with pytest.raises(DataError, match="no validation texts") as caught:
        load_task(questions, tmp_path)
    assert caught.value.code == "E313"
    assert "all texts of a document stay in one split" in caught.value.hint


def test_a_sentence_of_two_given_splits_is_an_error_and_of_documents_a_warning(tmp_path):
    text = "a O\nb B-X\n\n"
    for name, content in (("train", text + "c O\nd B-X\n\n"), ("test", text)):
        (tmp_path / f"{name}.conll").write_text(content)
    with pytest.raises(DataError, match="same text") as caught:
        scan(DataSettings(source=str(tmp_path), labels="tags"))
    assert caught.value.code == "E320"
    for name in ("train", "test"):
        file = tmp_path / f"{name}.conll"
        file.write_text("-DOCSTART- O\n\n" + file.read_text() + "-DOCSTART- O\n\ne O\nf B-X\n")
    listing = scan(DataSettings(source=str(tmp_path), labels="tags", allow_empty=True))
    assert [f.severity for f in listing.findings if f.code == "E320"] == ["warning", "warning"]


def test_contradictions_and_absent_tags_are_named(tmp_path):
    for name, content in (("train", "a O\nb B-X\n\na O\nb O\n\n"), ("dev", "d B-Y\n\n"), ("test", "e O\n")):
        (tmp_path / f"{name}.conll").write_text(content)
    findings = [(f.code, f.text) for f in scan(DataSettings(source=str(tmp_path), labels="tags")).findings]
    assert ("W336", "the same content has two labels: O B-X and O O") in findings
    assert ("W313", "tags of val that train lacks: B-Y") in findings


def test_a_source_without_any_answer_is_refused(tmp_path):
    file = write_questions(tmp_path / "q.json", 20, unanswerable=1.0)
    with pytest.raises(DataError, match="no training question has an answer") as caught:
        scan(settings(file))
    assert caught.value.code == "E312"


@pytest.mark.parametrize(
    ("name", "content", "kind", "problem"),
    [
        ("t.csv", "text,label\na,x\nb,y\n", "tags", "t.csv is no conll or jsonl"),
        ("t.conll", "a O\nb B-X\n", "span", "t.conll is no squad"),
        ("t.conll", "a O\nb B-X\n", "single", "labels for its words"),
        ("t.jsonl", '{"text": "a", "label": "x"}\n', "tags", "has one label, and labels is 'tags'"),
    ],
)
def test_other_labels_than_the_source_holds_are_refused(tmp_path, name, content, kind, problem):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        scan(DataSettings(source=str(tmp_path / name), labels=kind))
    assert (caught.value.code, problem in caught.value.problem) == ("E344", True)


def test_images_have_no_tags(tmp_path):
    with pytest.raises(DataError, match="digits holds images") as caught:
        scan(DataSettings(source="digits", labels="tags"))
    assert caught.value.code == "E344"


def test_questions_without_identifiers_are_told_apart(tmp_path):
    file = write_questions(tmp_path / "q.json", 10)
    raw = json.loads(file.read_text())
    count = 0
    for article in raw["data"]:
        for question in article["paragraphs"][0]["qas"]:
            question["id"], count = "same", count + 1
    file.write_text(json.dumps(raw))
    assert len({item.path for item in scan(settings(file)).items}) == count


def test_the_audit_counts_entities_and_questions(names, questions):
    tables = {table.title: table.rows for kind in (names, questions) for table in audit(settings(kind)).report.tables}
    assert {row["tag"] for row in tables["entities by type"]} == {"LOC", "PER"}
    total = sum(row[split] for row in tables["entities by type"] for split in ("train", "val", "test"))
    assert total == names.read_text().count("B-")
    assert [row["questions"] for row in tables["questions by split"]] == ["with an answer", "without an answer"]
    assert audit(settings(questions)).report["unanswerable"].of == "training questions"


def test_labels_become_batches_as_the_network_reads_them(names, questions, tmp_path):
    task = load_task(names, tmp_path)
    for inputs, labels in make_batches(task, 8, Augment(), torch.device("cpu"))(0):
        assert (labels[:, inputs.shape[1] :] == UNLABELLED).all()
        assert ((labels >= 0).sum(1) > 0).all()
    other = load_task(questions, tmp_path, size=60)
    tensor = label_tensor(other.train.labels, other.output)
    assert (tensor[:, 1] < tensor[:, 3]).all()
    part = subset(other.train, np.array([3, 1]))
    assert label_tensor(part.labels, other.output).tolist() == tensor[[3, 1]].tolist()


def test_splits_stay_over_stages(names, tmp_path):
    task = load_task(names, tmp_path)
    more = tmp_path / "more.conll"
    more.write_text(names.read_text() + "\n\n" + write_conll(tmp_path / "x.conll", 40, seed=5).read_text())
    before = {item.sha256: item.split for item in scan(settings(names)).items}
    after = {item.sha256: item.split for item in scan(settings(more), history=History(task.records)).items}
    assert {key: after[key] for key in before} == before


def test_the_input_fits_the_examples(names, questions):
    plain, tagged, asked = tokens(size=40), scan(settings(names)), scan(settings(questions))
    assert (fit_input(plain, tagged).pattern, fit_input(plain, tagged).stride) == (SINGLE, 10)
    assert (fit_input(plain, asked).pattern, fit_input(plain, asked).stride) == (PAIR, 10)
    assert fit_input(replace(plain, stride=3), tagged).stride == 3
    assert fit_input(fit_input(plain, asked), tagged).pattern == SINGLE
    assert fit_input(fit_input(plain, asked), replace(tagged, labels="single")) == plain
    assert fit_input(Preprocess(size=16), tagged) == Preprocess(size=16)
