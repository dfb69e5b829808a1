import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effxfer.deploy.export.logits import torch_logits
from effxfer.deploy.export.onnx import export_onnx, load
from effxfer.deploy.export.preprocessing import add_preprocessing
from effxfer.runtime.__main__ import main
from effxfer.runtime.images.crop import resize_crop
from effxfer.runtime.images.preprocess import ImageError, decode
from effxfer.runtime.model import Model, ModelError
from effxfer.runtime.model_file.seal import remove_seal
from effxfer.runtime.predict import predict_files
from effxfer.runtime.softmax import softmax
from tests.tiny_net import CLASSES, PREPROCESS, images, tiny_net

FORBIDDEN = ("torch", "torchvision", "timm", "pydantic", "onnx", "optuna", "sklearn", "typer", "rich", "filelock")


@pytest.fixture(scope="module")
def model(file):
    return Model(file, threads=1)


def test_predictions_equal_the_library_and_torch_is_not_imported(file, photos):
    script = f"""
import sys, json
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {FORBIDDEN!r}:
            raise ImportError(name + " is not here")
sys.meta_path.insert(0, Blocked())
import effxfer
from effxfer.runtime.predict import predict_files
rows = predict_files(sys.argv[1], sys.argv[2:], top=5)
loaded = {{name.split(".")[0] for name in sys.modules}} & set({FORBIDDEN!r})
print(json.dumps([rows, sorted(loaded), [n for n in sys.modules if n.startswith("effxfer")]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, file, *photos],
        capture_output=True, check=True, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    rows, loaded, own = json.loads(done.stdout)
    assert loaded == []
    assert [name for name in own if name != "effxfer" and not name.startswith("effxfer.runtime")] == []
    pixels = np.stack([resize_crop(decode(photo), PREPROCESS) for photo in photos])
    expected = softmax(torch_logits(tiny_net(), pixels, PREPROCESS))
    for row, shares in zip(rows, expected, strict=True):
        assert [t["label"] for t in row["top"]] == [CLASSES[i] for i in np.argsort(-shares)]
        np.testing.assert_allclose([t["probability"] for t in row["top"]], sorted(shares)[::-1], atol=1e-4)


def test_paths_bytes_and_arrays_give_the_same(model, photos):
    arrays = [np.asarray(Image.open(p)) for p in photos]
    expected = model.predict(photos)
    assert model.predict([str(p) for p in photos]) == expected
    assert model.predict([p.read_bytes() for p in photos]) == expected
    assert model.predict(arrays) == expected


def test_batch_size_does_not_matter(model, photos):
    one, many = model.predict(photos, batch=1), model.predict(iter(photos), batch=4)
    assert [p.label for p in one] == [p.label for p in many]
    assert [p.probability for p in one] == pytest.approx([p.probability for p in many], abs=1e-5)
    assert model.predict([]) == []
    assert model.logits(images(0)).shape == (0, len(CLASSES))


def test_top(model, photos):
    found = model.predict(photos[:1], top=3)[0]
    assert (found.label, found.probability) == found.top[0]
    assert len(found.top) == 3
    assert [s for _, s in found.top] == sorted((s for _, s in found.top), reverse=True)
    everything = model.predict(photos[:1], top=99)[0]
    assert {label for label, _ in everything.top} == set(CLASSES)
    assert sum(s for _, s in everything.top) == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("whole")
    file = export_onnx(tiny_net(), tmp_path / "m.onnx", input=PREPROCESS, classes=CLASSES, key="k1")
    return Model(add_preprocessing(file), threads=1)


def test_a_graph_that_resizes_gives_the_same(model, whole, photos):
    assert (whole.with_preprocessing, model.with_preprocessing) == (True, False)
    assert (whole.input_name, model.input_name) == ("pixels", "images")
    assert whole.labels == CLASSES
    for mine, theirs in zip(whole.predict(photos), model.predict(photos), strict=True):
        assert mine.label == theirs.label
        assert mine.probability == pytest.approx(theirs.probability, abs=0.01)
    with pytest.raises(ModelError, match="returns probabilities, not logits"):
        whole.logits(images(2))


def rotated(pixels, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", exif=exif)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (rotated(images(1, size=40)[0][:23], 6), np.rot90(images(1, size=40)[0][:23], -1)),
        (images(1, size=40)[0][:, :31, 0], images(1, size=40)[0][:, :31, :1].repeat(3, 2)),
        (np.full((1, 1, 3), 99, np.uint8), np.full((1, 1, 3), 99, np.uint8)),
        (np.full((2, 90_000, 3), 50, np.uint8), np.full((1, 1, 3), 50, np.uint8)),
    ],
    ids=["rotated", "grey", "one pixel", "extremely wide"],
)
def test_a_graph_that_resizes_sees_images_as_the_runtime_decodes_them(model, whole, source, shown):
    found, plain, same = whole.predict([source, source]), model.predict([source]), model.predict([shown])
    assert found[0] == found[1]
    assert found[0].probability == pytest.approx(plain[0].probability, abs=0.01)
    assert found[0].probability == pytest.approx(same[0].probability, abs=0.01)
    assert found[0].label == plain[0].label == same[0].label


def test_facts_of_the_file(model):
    assert model.labels == CLASSES
    assert model.preprocess == PREPROCESS
    assert model.metadata.key == "k1"
    assert model.metadata.precision == "fp32"


def test_grey_arrays_are_taken_and_others_refused(model):
    assert model.pixels(np.zeros((20, 30), np.uint8)).shape == (16, 16, 3)
    for bad in (np.zeros((20, 30, 3)), np.zeros((20, 30, 4), np.uint8), np.zeros(5, np.uint8)):
        with pytest.raises(ImageError, match="is not an image"):
            model.pixels(bad)


def test_a_bad_image_is_a_row_and_the_others_are_answered(file, photos, tmp_path):
    (tmp_path / "page.jpg").write_text("<html>")
    rows = predict_files(file, [photos[0], tmp_path / "page.jpg", photos[1]])
    assert [row["file"] for row in rows] == [str(photos[0]), str(tmp_path / "page.jpg"), str(photos[1])]
    assert rows[1]["error"].startswith("E301 not an image")
    assert [rows[0], rows[2]] == predict_files(file, photos[:2])


ODD = {"directory": "no regular file", "fifo": "no regular file", "empty": "holds 0 bytes", "text": "no ONNX model",
       "ir": "IR version 99"}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_the_command_shows_no_traceback_for_odd_files(file, tmp_path, kind, capsys):
    odd = tmp_path / "m.onnx"
    if kind == "directory":
        odd.mkdir()
    elif kind == "fifo":
        os.mkfifo(odd)
    elif kind == "ir":
        proto = load(file)
        proto.ir_version = 99
        odd.write_bytes(proto.SerializeToString())
    else:
        odd.write_bytes(b"" if kind == "empty" else b"hello")
    assert main([str(odd), "x.jpg"]) == 4
    said = capsys.readouterr().err
    assert said.startswith("E424")
    assert ODD[kind] in said
    if kind == "ir":
        assert "Unsupported model IR version: 99" in said
        assert "ONNX Runtime 1." in said


def test_command_prints_json_lines(file, photos, capsys):
    assert main([str(file), *map(str, photos), "--top", "2"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["file"] for row in rows] == [str(p) for p in photos]
    assert rows == predict_files(file, photos, top=2)


def test_command_goes_on_after_a_bad_image(file, photos, tmp_path, capsys):
    assert main([str(file), str(tmp_path / "absent.jpg"), str(photos[0])]) == 3
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0]["error"].startswith("E300")
    assert rows[1]["label"] in CLASSES


def test_command_waits_for_no_pipe_and_reads_no_device(file, photos, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    images = [tmp_path / "pipe.jpg", tmp_path / "endless.jpg", photos[0]]
    assert main([str(file), *map(str, images)]) == 3
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    whys = ["it is a named pipe, no regular file", "it is a device, no regular file", None]
    assert [row.get("error") for row in rows] == [why and f"E300 cannot be read: {why}" for why in whys]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_command_prints_json_whatever_a_file_is_called(file, tmp_path, encoding):
    images = [tmp_path / os.fsdecode(b"caf\xe9 \xc3\xbc.jpg"), tmp_path / "ü\n.jpg"]
    done = subprocess.run(
        [sys.executable, "-m", "effxfer.runtime", file, *images],
        check=False, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd()), "PYTHONIOENCODING": encoding},
    )  # fmt: skip
    assert done.returncode == 3
    rows = [json.loads(line) for line in done.stdout.decode(encoding).splitlines()]
    assert [row["file"] for row in rows] == list(map(str, images))


def test_command_says_that_nothing_vouches_for_a_file_of_before(file, photos, tmp_path, capsys):
    assert main([str(file), str(photos[0])]) == 0
    expected = capsys.readouterr()
    assert expected.err == ""
    (tmp_path / "m.onnx").write_bytes(remove_seal(file.read_bytes()))
    assert main([str(tmp_path / "m.onnx"), str(photos[0])]) == 0
    assert capsys.readouterr() == (
        expected.out,
        f"note: {tmp_path / 'm.onnx'} has no seal: nothing detects damage to it\n",
    )


def test_command_names_a_bad_model(tmp_path, capsys):
    assert main([str(tmp_path / "absent.onnx"), "x.jpg"]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("E424 no model file")
