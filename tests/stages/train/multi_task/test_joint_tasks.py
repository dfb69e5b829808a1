"""An intent of a text and tags of its words by one network, from a file of texts to a file that answers both."""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from effxfer.data.settings import DataSettings
from effxfer.deploy.bundle.page import model_json, place_kind
from effxfer.errors import SettingsError
from effxfer.net.settings import BackboneSettings
from effxfer.runtime.model import Model
from effxfer.settings import build
from tests import tiny
from tests.data.template_encoder import write_encoder
from tests.data.templates import write_joint
from tests.stages.train.multi_task.killing import killed_after

KINDS = {"intent": "single", "slots": "tags"}
OPTIONS = {"batch": 16, "controls": "none"}
FIT = {**tiny.FIT, "epochs": 4, "lr": 2e-3}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    write_encoder(folder / "encoder", width=32, layers=1)
    write_joint(folder / "data", 120)
    return folder


def joint(place) -> DataSettings:
    return build(DataSettings, {"source": str(place / "data" / "joint.jsonl"), "labels": KINDS}, "data")


def tables(place) -> list[DataSettings]:
    return [
        DataSettings(source=str(place / "data" / "intent.csv")),
        DataSettings(source=str(place / "data" / "slots.conll"), labels="tags"),
    ]


def finetune(place, out, data, strategy="multi_task", options=OPTIONS, **changes):
    backbone = BackboneSettings(source=f"hf:{place / 'encoder'}", size=48)
    fit = {**FIT, **changes}
    return tiny.stage("finetune", backbone, out, data, strategy=strategy, options=options, fit=fit)


@pytest.fixture(scope="module")
def network(place):
    return finetune(place, place / "net", tables(place))


@pytest.fixture(scope="module")
def exported(network, place):
    return tiny.stage("export", network, place / "file", None, int8=False, hf_inputs=True)


def test_each_task_has_its_metric_and_their_mean_chooses(network):
    report = network.manifest.report
    intent, slots = report["accuracy/val/intent"], report["F1/val/slots"]
    assert (intent.of, slots.of) == ("texts", "entities")
    assert report["score/val"].value == pytest.approx((intent.value + slots.value) / 2)
    assert report["accuracy/test/intent"].value > 40  # of four intents, of which one has two of five templates


def test_a_file_has_an_output_of_texts_and_one_of_tokens(network, exported):
    outputs = onnxruntime.InferenceSession(exported.path / "model.onnx").get_outputs()
    assert [(output.name, output.shape) for output in outputs] == [
        ("intent", ["batch", 4]), ("slots", ["batch", "length", 5])
    ]  # fmt: skip
    report = exported.manifest.report
    for name in ("accuracy/val/intent", "F1/val/slots"):
        assert report[f"{name}/fp32"].value == network.manifest.report[name].value
    rows = [row for row in report.rows if row.name.startswith("parity/")]
    assert {"parity/alone", "parity/batch32", "parity/length8"} <= {row.name for row in rows}
    assert report["parity/agreement"].value == 100
    assert report["F1/hf/slots/fp32"].value == report["F1/val/slots/fp32"].value


def test_a_text_has_a_class_and_entities_with_their_places(exported):
    model = Model(exported.path / "model.onnx")
    text = "Anna Björk flew from Zürich to San Sebastián."
    (one,) = model.predict([text], top=2)
    assert len(one.tasks["intent"].top) == 2
    assert [word.text for word in one.tasks["slots"].words][-1] == "."
    assert all(text[word.start : word.end] == word.text for word in one.tasks["slots"].words)
    (words,) = model.predict([[word.text for word in one.tasks["slots"].words]])
    assert words.tasks["intent"].label == one.tasks["intent"].label
    assert words.tasks["slots"].tags == one.tasks["slots"].tags
    pair = model.predict([text, "It rained ."])
    assert pair[0].tasks["intent"].probability == pytest.approx(one.tasks["intent"].probability, abs=1e-5)
    assert model.outputs([text]).shape[2] == 9


def test_a_page_reads_the_words_of_texts(exported):
    model = Model(exported.path / "model.onnx")
    assert place_kind(model.output) == "tags"
    assert model_json("x", model.metadata, [])["tokens"]["places"] == "words"


@pytest.mark.slow
def test_one_of_the_tasks_alone_can_be_delivered(place, tmp_path):
    for auxiliary, kind, row in (("intent", "tags", "F1/val/fp32"), ("slots", "single", "accuracy/val/fp32")):
        out = tmp_path / auxiliary
        net = finetune(place, out / "net", joint(place), options={**OPTIONS, "auxiliary": [auxiliary]}, epochs=1)
        file = tiny.stage("export", net, out / "file", joint(place), int8=False)
        assert Model(file.path / "model.onnx").output.kind == kind
        assert file.manifest.report[row] is not None


@pytest.mark.parametrize("strategy", ["full", "lora", "prompts", "l2_sp"])
def test_other_strategies_add_the_losses_up(place, tmp_path, strategy):
    net = finetune(place, tmp_path / "net", joint(place), strategy, options={"batch": 16}, epochs=1)
    assert net.manifest.report["F1/val/slots"] is not None


def test_a_sharing_of_vectors_is_refused_by_name(place, tmp_path):
    with pytest.raises(SettingsError, match=r"sharing 'mmoe' reads one vector .* 'slots' tags its words"):
        finetune(place, tmp_path / "net", joint(place), options={**OPTIONS, "sharing": "mmoe"})


def test_a_run_that_was_killed_goes_on_to_equal_bytes(network, place, tmp_path):
    out = tmp_path / "net"
    with killed_after(20):
        finetune(place, out, tables(place))
    finetune(place, out, tables(place))
    assert (out / "weights.safetensors").read_bytes() == (network.path / "weights.safetensors").read_bytes()


def run(*arguments, place) -> str:
    command = [sys.executable, "-m", "effxfer", *map(str, arguments)]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.mark.slow
def test_intents_and_slots_are_learned_from_the_shell_to_a_bundle(tmp_path):
    write_encoder(tmp_path / "encoder")
    write_joint(tmp_path / "data", 300)
    plan = tmp_path / "joint.toml"
    plan.write_text(f"""
[[data]]
source = "{tmp_path}/data/intent.csv"
[[data]]
source = "{tmp_path}/data/slots.conll"
labels = "tags"
[backbone]
source = "hf:{tmp_path}/encoder"
size = 48
[[stage]]
run = "finetune"
strategy = "multi_task"
options = {{ batch = 16, main = ["slots"] }}
fit = {{ epochs = 8, lr = 2e-3 }}
[[stage]]
run = "export"
bundle = true
max_drop = 5.0
latency_seconds = 0.5
recipes = ["dynamic-7bit"]
""")
    run("run", plan, "--out", tmp_path / "out", place=tmp_path)
    report = json.loads((tmp_path / "out" / "1-finetune" / "manifest.json").read_text())["report"]
    values = {row["name"]: row["value"] for row in report["rows"]}
    assert values["accuracy/test/intent"] >= 95
    assert values["F1/test/slots"] >= 90
    # The null: a head that never learned, on the same body.
    null = finetune(tmp_path, tmp_path / "null", tables(tmp_path), epochs=0).manifest.report
    assert null["F1/test/slots"].value < 30
    assert values["latency ratio"] < 1
    (table,) = [table for table in report["tables"] if table["title"].startswith("One network for all tasks")]
    assert [row["task"] for row in table["rows"]] == ["intent", "slots", "delta m"]
    out = tmp_path / "out" / "2-export"
    lines = tmp_path / "texts.txt"
    lines.write_text(
        "The mayor of Zürich met Anna Björk and Ingrid van Vries .\nAnna Björk flew from Zürich to New Orleans .\n"
    )
    predicted = json.loads(run("predict", out, "--text-file", lines, "--json", place=tmp_path))["predictions"]
    assert [row["tasks"]["intent"]["label"] for row in predicted] == ["meeting", "travel"]
    assert [(e["text"], e["type"]) for e in predicted[1]["tasks"]["slots"]["entities"]] == [
        ("Anna Björk", "PER"), ("Zürich", "LOC"), ("New Orleans", "LOC")
    ]  # fmt: skip
    bundle = tmp_path / "alone"
    shutil.copytree(out / "bundle", bundle)
    card = (bundle / "README.md").read_text()
    assert "`slots`: for each word a tag of 5" in card
    assert "`slots` has a logit of each tag for each token" in card
    command = [sys.executable, "example.py", "Anna Björk flew from Zürich to New Orleans."]
    said = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
    assert "intent: travel" in said.stdout, said.stderr
    assert "Anna Björk (PER), Zürich (LOC), New Orleans (LOC)" in said.stdout
    int8 = {row["name"]: row["value"] for row in json.loads((out / "manifest.json").read_text())["report"]["rows"]}
    assert int8["F1/test/slots/int8"] >= values["F1/test/slots"] - 5
    assert np.isfinite(int8["accuracy/test/intent/int8"])
