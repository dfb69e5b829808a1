"""The whole way of vectors: from a file to a checked ONNX file that predicts, for each kind of label."""

import json
import subprocess
import sys

import numpy as np
import pytest

import effxfer as ex
from effxfer.errors import SettingsError
from effxfer.runtime.model import Model
from effxfer.runtime.predict import predict_files
from tests.tiny_vectors import CLASSES, WIDTH, vectors, write_npz

BODY = "effxfer.net.mlp:mlp"
FLAGS = np.stack([vectors(240)[1] > 0, vectors(240)[1] == 1], 1).astype(int)
KINDS = {
    "single": {},
    "multi": {"labels": FLAGS, "classes": np.array(["winged", "striped"])},
    "value": {"labels": vectors(240)[0][:, :1] * 2 + 5, "classes": np.array(["length"])},
}


def train_settings(lr, **args):
    """Settings of a short training that reaches its end."""
    return {"fit": {"lr": lr}, "backbone": {"args": args}}


@pytest.mark.parametrize("kind", KINDS)
def test_from_a_file_to_a_checked_model(tmp_path, kind):
    file = write_npz(tmp_path / "bugs.npz", 240, **KINDS[kind])
    settings = train_settings(0.05, hidden=[12]) | {"data": {"labels": kind}, "options": {"batch": 16}}
    base = ex.finetune(BODY, data=str(file), epochs=12, out=tmp_path / "base", settings=settings)
    assert base.manifest.preprocess["size"] == WIDTH
    score = next(row for row in base.report.rows if row.name.endswith("/test"))
    assert (score.value > 85, score.of) == (True, "vectors" if kind != "value" else score.of)
    exported = ex.export(base, out=tmp_path / "onnx", int8=False)
    model = Model(exported.path / "model.onnx")
    assert model.input == base.network().input
    rows = vectors(10, seed=3)[0]
    np.save(tmp_path / "new.npy", rows)
    got = predict_files(exported.path / "model.onnx", [tmp_path / "new.npy"])
    assert [(row["file"], row["row"]) for row in got] == [(str(tmp_path / "new.npy"), n) for n in range(10)]
    assert [row for row in got if "error" in row] == []
    assert len(model.predict(list(rows))) == 10


def test_a_device_without_torch_gives_the_same_labels(tmp_path):
    file = write_npz(tmp_path / "bugs.npz", 240)
    base = ex.finetune(BODY, data=str(file), epochs=8, out=tmp_path / "base", settings=train_settings(0.1))
    exported = ex.export(base, out=tmp_path / "onnx", int8=False)
    rows, labels = vectors(30, seed=4)
    np.savez(tmp_path / "new.npz", features=rows)
    command = [
        sys.executable,
        "-P",
        "-m",
        "effxfer.runtime",
        str(exported.path / "model.onnx"),
        str(tmp_path / "new.npz"),
    ]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    predicted = [json.loads(line)["label"] for line in lines]
    assert np.mean(np.array(predicted) == np.array(CLASSES)[labels]) > 0.8


def test_int8_is_gated_on_the_standardised_vectors(tmp_path):
    file = write_npz(tmp_path / "bugs.npz", 240)
    settings = train_settings(0.05, hidden=[16])
    base = ex.finetune(BODY, data=str(file), epochs=8, out=tmp_path / "base", settings=settings)
    report = ex.export(base, out=tmp_path / "onnx", settings={"latency_seconds": 1.0}).report
    (table,) = [table for table in report.tables if "int8" in table.title]
    tried = [row for row in table.rows if row["recipe"] != "fp32" and row["vectors"]]
    assert tried
    # Calibrated on vectors in their own units, up to a thousand apart, none would agree.
    assert max(row["agreement %"] for row in tried) > 90


def test_options_of_images_are_refused(tmp_path):
    file = write_npz(tmp_path / "bugs.npz", 240)
    for settings, message in (
        ({"options": {"augment": {"mixup": 0.2}}}, "augment has no effect on vectors"),
        ({"size": 64}, "takes vectors of 6 numbers"),
        ({"backbone": {"crop": "squash"}}, "the backbone takes vectors"),
    ):
        with pytest.raises(SettingsError, match=message):
            ex.finetune(BODY, data=str(file), epochs=1, out=tmp_path / "refused", settings=settings)
    with pytest.raises(SettingsError, match="needs images"):
        ex.finetune(BODY, data=str(file), epochs=1, strategy="fixmatch", out=tmp_path / "f")
