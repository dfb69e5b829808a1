import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from effxfer.deploy.export.onnx import export_onnx, load
from effxfer.deploy.export.parity import torch_logits
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
def file(tmp_path_factory):
    target = tmp_path_factory.mktemp("model") / "model.onnx"
    return export_onnx(tiny_net(), target, preprocess=PREPROCESS, classes=CLASSES, key="k1")


@pytest.fixture(scope="module")
def model(file):
    return Model(file, threads=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i, pixels in enumerate(images(5, size=40)):
        Image.fromarray(pixels[: 24 + 3 * i]).save(folder / f"{i} ü.png")
    return sorted(folder.iterdir())


@pytest.mark.parametrize(("asked", "started"), [(1, 1), (10**6, os.cpu_count())])
def test_no_more_threads_are_started_than_the_machine_has_cores(file, asked, started):
    """500 on two cores waited for each other for minutes."""
    assert Model(file, threads=asked)._session.get_session_options().intra_op_num_threads == started


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
    file = export_onnx(tiny_net(), tmp_path / "m.onnx", preprocess=PREPROCESS, classes=CLASSES, key="k1")
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


def test_metadata_that_deny_the_input_are_refused(file, tmp_path):
    proto = load(file)
    next(p for p in proto.metadata_props if p.key == "with_preprocessing").value = "true"
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"takes tensor\(float\), which its metadata contradicts"):
        Model(tmp_path / "m.onnx")


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


@pytest.mark.parametrize("content", [None, b"", b"hello", "half"])
def test_what_is_no_model_is_named(file, tmp_path, content):
    bad = tmp_path / "bad.onnx"
    if content is not None:
        bad.write_bytes(file.read_bytes()[:2000] if content == "half" else content)
    with pytest.raises(ModelError) as caught:
        Model(bad)
    assert caught.value.code == "E424"
    assert "bad.onnx" in caught.value.problem
    assert "\n" not in caught.value.problem


def stated(**change):
    return json.dumps({**PREPROCESS.to_json(), **change})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"labels": None}, "has no effxfer metadata"),
        ({"preprocess": "{"}, "unreadable effxfer metadata"),
        ({"preprocess": '{"mean": [0, 0, 0], "std": [1, 1, 1], "colour": 1}'}, "unreadable effxfer metadata"),
        ({"labels": '["a", "b"]'}, "its metadata names 2 labels"),
        ({"labels": "[" * 100_000}, "nested too deeply"),
        ({"labels": "{}"}, "labels are no list"),
        ({"labels": "[]"}, "labels are no list"),
        ({"labels": json.dumps(["a"] * 100_001)}, "labels are no list of 1 to 100000"),
        ({"labels": json.dumps(["a" * 1001])}, "no text of at most 1000 characters"),
        ({"labels": "[1]"}, "the label 1 is no text"),
        ({"preprocess": stated(size=10**9)}, "size is 1000000000, no whole number from 1 to 8192"),
        ({"preprocess": stated(size=-3)}, "size is -3"),
        ({"preprocess": stated(size="big")}, "size is 'big'"),
        ({"preprocess": stated(size=True)}, "size is True"),
        ({"preprocess": stated(crop_pct=0)}, "crop_pct is 0"),
        ({"preprocess": stated(crop_pct=1e-300)}, "crop_pct is 1e-300"),
        ({"preprocess": stated(crop_pct=2)}, "crop_pct is 2"),
        ({"preprocess": stated(mean=[0, 0])}, "mean is a list, no list of three numbers"),
        ({"preprocess": stated(mean=[0, 0, float("nan")])}, "no list of three numbers"),
        ({"preprocess": stated(std=[1, 0, 1])}, "std is a list, not above 0"),
        ({"preprocess": stated(std=None)}, "std is None"),
        ({"preprocess": stated(interpolation="magic")}, "interpolation is 'magic', none of"),
        ({"preprocess": stated(crop="round")}, "crop is 'round', none of"),
        ({"preprocess": "[]"}, "preprocess is a list, no table"),
    ],
)
def test_missing_or_broken_metadata(file, tmp_path, change, problem):
    proto = load(file)
    props = {p.key: p.value for p in proto.metadata_props} | change
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {k: v for k, v in props.items() if v is not None})
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=problem) as caught:
        Model(tmp_path / "m.onnx")
    assert caught.value.code == "E428"


def test_a_bad_image_is_a_row_and_the_others_are_answered(file, photos, tmp_path):
    (tmp_path / "page.jpg").write_text("<html>")
    rows = predict_files(file, [photos[0], tmp_path / "page.jpg", photos[1]])
    assert [row["file"] for row in rows] == [str(photos[0]), str(tmp_path / "page.jpg"), str(photos[1])]
    assert rows[1]["error"].startswith("E301 not an image")
    assert [rows[0], rows[2]] == predict_files(file, photos[:2])


def with_bias(file, out, value):
    """The same network, whose last bias holds `value`."""
    proto = load(file)
    weights = {put for node in proto.graph.node for put in node.input}
    bias = next(t for t in proto.graph.initializer if list(t.dims) == [len(CLASSES)] and t.name in weights)
    bias.CopyFrom(numpy_helper.from_array(np.array([value, *[0] * (len(CLASSES) - 1)], np.float32), bias.name))
    onnx.save(proto, out)
    return out


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_answers_that_are_no_numbers_name_file_and_image(file, photos, tmp_path, value, capsys):
    bad = with_bias(file, tmp_path / "m.onnx", value)
    with pytest.raises(ModelError, match="returns NaN or infinity") as caught:
        predict_files(bad, photos)
    assert caught.value.code == "E429"
    assert str(bad) in caught.value.problem
    assert str(photos[0]) in caught.value.problem
    with pytest.raises(ModelError, match="returns NaN or infinity for image 1"):
        Model(bad).probabilities([images(1)[0]])
    assert main([str(bad), *map(str, photos)]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("E429")


def test_an_answer_of_another_shape_names_what_it_is(file, photos, tmp_path):
    proto = load(file)
    last = proto.graph.output[0].name
    for node in proto.graph.node:
        node.output[:] = ["before" if name == last else name for name in node.output]
    two = numpy_helper.from_array(np.array([2, 1], np.int64), "two")
    proto.graph.initializer.append(two)
    proto.graph.node.append(onnx.helper.make_node("Tile", ["before", "two"], [last]))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"returns float32 \(10, 5\) for .*, not float \(5, 5\)") as caught:
        predict_files(tmp_path / "m.onnx", photos)
    assert caught.value.code == "E428"


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


def test_a_provider_that_is_not_there_is_refused_not_replaced(file):
    with pytest.raises(ModelError, match=r"has no NoSuchProvider") as caught:
        Model(file, providers=["NoSuchProvider"])
    assert "CPUExecutionProvider" in caught.value.hint
    assert Model(file, providers=["NoSuchProvider", "CPUExecutionProvider"]).providers == ("CPUExecutionProvider",)
