"""The page's arithmetic for tags and answers is the runtime's."""

import json
import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("tokenizers")

from effxfer.deploy.bundle.page import WEB
from effxfer.runtime.outputs.span import Span
from effxfer.runtime.outputs.tagging import Tagging
from effxfer.runtime.outputs.text_answers import _answer, _tag, read_positions
from effxfer.runtime.outputs.words import find_words
from effxfer.runtime.text.pattern import PAIR
from tests.runtime.text.tiny_tokenizers import tokens

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
TAGS = (("B-LOC", "B-PER", "I-LOC", "I-PER", "O"), ("B-A", "E-A", "I-A", "S-A", "O"), ("NOUN", "VERB", "O"))
TEXT = "the cat  sat on the mat, it was great. play a cat"
RUN = """
import { answer, findWords } from "./positions.js";
import { readFileSync } from "node:fs";
const cases = JSON.parse(readFileSync("cases.json"));
const say = (one) => (one.words_of ? findWords(one.words_of) : answer(one.raw, one.about, one.reading));
console.log(JSON.stringify(cases.map(say)));
"""


def run(folder, cases):
    shutil.copy(WEB / "positions.js", folder / "positions.js")
    (folder / "run.mjs").write_text(RUN)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "cases.json").write_text(json.dumps(cases))
    node = shutil.which("node")
    return json.loads(subprocess.run([node, "run.mjs"], cwd=folder, capture_output=True, check=True).stdout)


def test_texts_have_the_same_words(tmp_path):
    texts = [TEXT, "Germany's U.N. envoy (O\u2019Neill) paid 1,000.50.", "e\u0301te\u0301 \u65e5\u672c\u8a9e \u00bd_x"]
    assert run(tmp_path, [{"words_of": text} for text in texts]) == [[list(s) for s in find_words(t)] for t in texts]


@pytest.mark.parametrize("classes", TAGS, ids=lambda classes: classes[1])
def test_words_have_the_same_tags_and_entities(tmp_path, classes):
    rng, output, input = np.random.default_rng(0), Tagging(classes=classes), tokens(size=40)
    reading = read_positions(input, output, TEXT)
    firsts = [int(np.flatnonzero(reading.encodings.words == word)[0]) for word in range(len(reading.words))]
    page = {"text": TEXT, "words": reading.offsets, "firsts": firsts}
    cases, expected = [], []
    for _ in range(20):
        raw = rng.normal(0, 3, (1, len(reading.encodings.rows.values), len(classes))).astype(np.float32)
        about = {"labels": classes, "output": output.to_json()}
        cases.append({"raw": raw.ravel().tolist(), "about": about, "reading": page})
        said = _tag(output, reading, raw)
        parts = [(e.type, e) for e in said.entities] if said.has_entities else [(w.tag, w) for w in said.words]
        expected.append([(label, e.text, e.start, e.end, pytest.approx(e.probability, abs=1e-6)) for label, e in parts])
    assert [
        [(p["label"], p["text"], p["start"], p["end"], p["probability"]) for p in said["parts"]]
        for said in run(tmp_path, cases)
    ] == expected  # fmt: skip


@pytest.mark.parametrize("threshold", [(), (12.0,)])
def test_questions_have_the_same_answers(tmp_path, threshold):
    rng, output, input = np.random.default_rng(0), Span(threshold=threshold), tokens(size=60, pattern=PAIR)
    reading = read_positions(input, output, ("was it", TEXT))
    spans = reading.encodings.spans.tolist()
    page = {"text": TEXT, "places": [place if place[0] >= 0 else None for place in spans]}
    cases, expected = [], []
    for _ in range(20):
        raw = rng.normal(0, 3, (1, len(spans), 2)).astype(np.float32)
        about = {"labels": output.classes, "output": output.to_json()}
        cases.append({"raw": raw.ravel().tolist(), "about": about, "reading": page})
        said = _answer(output, reading, raw, 0)
        part = [(said.text, said.start, said.end, pytest.approx(said.probability, abs=1e-6))]
        expected.append([] if said.text is None else part)
    answers = [
        [(p["text"], p["start"], p["end"], p["probability"]) for p in said["parts"]] for said in run(tmp_path, cases)
    ]
    assert answers == expected
    assert any(answers)
    assert all(answers) == (not threshold)
