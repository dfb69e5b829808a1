"""Files of several tasks of all kinds: with their preprocessing inside, and in a bundle."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from effxfer.data.settings import DataSettings
from effxfer.deploy.bundle.page import WEB
from effxfer.deploy.bundle.web_library import ORT_WEB
from effxfer.runtime.model import Model
from tests import tiny

KINDS = {"colour": "single", "marks": "multi", "size": "value"}
MARKS = {"red": "round|hot", "green": "|", "blue": "round"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network of three tasks, exported for its own input and, in a bundle, for whole images."""
    folder = tmp_path_factory.mktemp("kinds")
    files = sorted(file for file in tiny.write_images(folder / "images").rglob("*") if file.is_file())
    rows = [
        {"path": str(file.relative_to(folder)), "colour": file.parent.name, "marks": MARKS[file.parent.name], "size": n}
        for n, file in enumerate(files)
    ]
    with (folder / "kinds.csv").open("w") as table:
        writer = csv.DictWriter(table, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    library = folder / "ort-web"
    library.mkdir()
    for name in ORT_WEB.files:
        (library / name).write_bytes(b"x")
    data = DataSettings(source=str(folder / "kinds.csv"), labels=KINDS, val_fraction=0.2, test_fraction=0.2)
    options = {**tiny.PLAIN, "controls": "none"}
    net = tiny.finetune(folder / "net", data, strategy="multi_task", options=options, fit={**tiny.FIT, "epochs": 1})
    plain = tiny.stage("export", net, folder / "plain", data, int8=False)
    whole = tiny.stage(
        "export", net, folder / "whole", data, int8=False, bundle=True, with_preprocessing=True, ort_web=str(library)
    )
    return plain, whole, files


def test_a_file_with_preprocessing_keeps_an_output_for_each_task(exported):
    plain, whole, files = exported
    outputs = onnxruntime.InferenceSession(whole.path / "model.onnx").get_outputs()
    assert [(output.name, output.shape[1]) for output in outputs] == [("colour", 3), ("marks", 2), ("size", 1)]
    first, second = Model(plain.path / "model.onnx"), Model(whole.path / "model.onnx")
    one, other = first.predict(files[::7]), second.predict(files[::7])
    for before, after in zip(one, other, strict=True):
        assert before.tasks["colour"].label == after.tasks["colour"].label
        assert before.tasks["size"].values["size"] == pytest.approx(after.tasks["size"].values["size"], abs=0.5)
        # Not the labels: a threshold may lie on the probability of one of these images.
        pairs = zip(before.tasks["marks"].top, after.tasks["marks"].top, strict=True)
        assert all(first[1] == pytest.approx(second[1], abs=0.01) for first, second in pairs)
    report = whole.manifest.report
    for name in ("score/val", "accuracy/val/colour", "mAP/val/marks", "R2/val/size", "mAP/test/marks"):
        assert report[f"{name}/fp32"].value == pytest.approx(plain.manifest.report[f"{name}/fp32"].value, abs=0.5)
    assert report["preprocessing/agreement/fp32"].value == 100


def test_card_example_and_page_of_a_bundle_have_an_answer_for_each_task(exported, tmp_path):
    _, whole, files = exported
    bundle = whole.path / "bundle"
    card = (bundle / "README.md").read_text()
    assert "Answers 3 questions about an image" in card
    assert "- `marks`: any number of 2: hot, round" in card
    assert "outputs `colour`, `marks`, `size`" in card
    assert "- accuracy/val/colour/fp32: " in card
    said = subprocess.run(
        [sys.executable, "example.py", str(files[0])], cwd=bundle, capture_output=True, text=True, check=True
    ).stdout
    assert [line.split(":")[0] for line in said.splitlines()] == list(KINDS)
    about = json.loads((bundle / "model.json").read_text())
    assert about["models"][0]["output"] == [task["name"] for task in about["output"]["tasks"]] == list(KINDS)


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_the_page_answers_as_the_runtime_does(exported, tmp_path):
    plain, whole, files = exported
    for artifact, number in ((plain, 0), (whole, 1)):
        model = Model(artifact.path / "model.onnx")
        raw = model.outputs([files[0]]) if number else model.logits(model.pixels(files[0])[None])
        columns = model.output.columns()
        results = {name: {"data": raw[0, place].tolist()} for name, place in columns.items()}
        tasks = model.output.to_json()["tasks"]
        shutil.copy(WEB / "outputs.js", tmp_path / "outputs.mjs")
        script = (
            f"import {{ answerTask }} from './outputs.mjs';\n"
            f"const [results, isFinal] = [{json.dumps(results)}, {json.dumps(bool(number))}];\n"
            f"const said = {json.dumps(tasks)}.map((task) =>\n"
            "  ({ task: task.name, ...answerTask(results, task, isFinal) }));\n"
            "console.log(JSON.stringify(said))"
        )
        (tmp_path / "run.mjs").write_text(script)
        said = json.loads(subprocess.run(["node", "run.mjs"], cwd=tmp_path, capture_output=True, check=True).stdout)
        (expected,) = model.predict([files[0]])
        assert [each["task"] for each in said] == list(KINDS)
        assert said[0]["ranked"][0]["label"] == expected.tasks["colour"].label
        np.testing.assert_allclose(said[0]["ranked"][0]["probability"], expected.tasks["colour"].probability, rtol=1e-5)
        applied = sorted(each["label"] for each in said[1]["ranked"] if each["applies"])
        assert applied == sorted(name for name, _ in expected.tasks["marks"].labels)
        np.testing.assert_allclose(said[2]["values"][0]["value"], expected.tasks["size"].values["size"], rtol=1e-5)
