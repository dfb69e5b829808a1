"""The web page of a bundle, in a real browser, against the Python runtime."""

from dataclasses import replace

import onnx
import pytest
from PIL import Image

from effxfer.deploy.bundle.bundle import write_bundle
from effxfer.deploy.bundle.card import Origin
from effxfer.deploy.bundle.page import Page
from effxfer.deploy.bundle.tokenizer_check import PROBES
from effxfer.deploy.bundle.web_library import ORT_WEB, TOKENIZERS_WEB, find_library
from effxfer.deploy.export.onnx import export_onnx, load, read_metadata, write_metadata
from effxfer.deploy.export.preprocessing import add_preprocessing
from effxfer.report import Report, Table
from effxfer.runtime.model import Model
from effxfer.runtime.outputs.multi_label import MultiLabel
from effxfer.runtime.outputs.regression import Regression
from effxfer.runtime.text.pattern import PAIR
from tests.deploy import browser
from tests.tiny_net import CLASSES

pytestmark = pytest.mark.skipif(not (browser.BROWSER and browser.ORT_FOLDER), reason=browser.MISSING)
needs_tokenizers = pytest.mark.skipif(not browser.TOKENIZERS_FOLDER, reason=browser.NO_TOKENIZERS)
SPEED = Report(tables=(Table(title="", rows=({"model": "a", "p50 ms": 1.0},)),))
HOSTILE = '<img src=x onerror="document.title=1">'


def bundled(file, out):
    page = Page(libraries=(find_library(ORT_WEB, browser.ORT_FOLDER),))
    if read_metadata(file).input.kind == "text":
        page = replace(page, libraries=(*page.libraries, find_library(TOKENIZERS_WEB, browser.TOKENIZERS_FOLDER)))
    origin = Origin(title="<b>Shapes", backbone="tiny", data="shapes")
    return write_bundle(out / "bundle", [file], origin=origin, accuracy=Report(), speed=SPEED, page=page)


def with_output(file, out, output):
    """A copy of an exported file that gives another kind of answer."""
    model = load(file)
    write_metadata(model, replace(read_metadata(file), output=output))
    onnx.save(model, out)
    return out


def write(pixels, place):
    """Images of the task in other sizes and formats; then a palette, a photograph on its side, and transparency."""
    place.mkdir()
    kinds = ("png", "jpg", "webp")
    for i, one in enumerate(pixels[:24]):
        size = (40 + 3 * i, 64 - i)
        Image.fromarray(one).resize(size).save(place / f"{i:02}.{kinds[i % 3]}", quality=95)
    image, exif = Image.fromarray(pixels[24]).resize((60, 40)), Image.Exif()
    exif[0x0112] = 6
    image.save(place / "turned.jpg", exif=exif, quality=95)
    image.quantize(64).save(place / "palette.png")
    layer = image.convert("RGBA")
    layer.putalpha(Image.linear_gradient("L").resize(image.size))
    layer.save(place / "transparent.png")
    return sorted(place.iterdir())


def best(row):
    return row["answer"]["ranked"][0]["label"], row["answer"]["ranked"][0]["probability"]


def test_the_page_says_what_the_runtime_says(exported, pixels, tmp_path):
    images = write(pixels, tmp_path / "images")
    rows = browser.predict(bundled(exported, tmp_path), images, tmp_path)
    assert [row["state"] for row in rows] == ["done"] * len(images), rows
    expected = Model(exported).predict(images)
    assert len({one.label for one in expected}) > 1
    assert [best(row)[0] for row in rows] == [one.label for one in expected]
    assert [best(row)[1] for row in rows] == pytest.approx([one.probability for one in expected], abs=0.02)


def png_images(pixels, place):
    """Images that every reader decodes to the same pixels."""
    place.mkdir()
    for i, one in enumerate(pixels[:8]):
        Image.fromarray(one).resize((40 + i, 50 - i)).save(place / f"{i}.png")
    return sorted(place.iterdir())


@pytest.mark.parametrize("resizes", [False, True])
def test_several_labels_apply_above_their_thresholds(exported, pixels, tmp_path, resizes):
    images = png_images(pixels, tmp_path / "images")
    raw = Model(exported).outputs(images)
    # Half of the images are above each threshold, and the labels are markup.
    output = MultiLabel(
        classes=(HOSTILE, *CLASSES[1:]), thresholds=tuple(map(float, sorted(raw.T.tolist())[0][:1])) * 0
    )
    limits = tuple(float(sum(sorted(column)[3:5]) / 2) for column in raw.T)
    output = replace(output, thresholds=limits)
    file = with_output(exported, tmp_path / "model.onnx", output)
    if resizes:
        add_preprocessing(file)
    rows = browser.predict(bundled(file, tmp_path), images, tmp_path)
    assert [row["state"] for row in rows] == ["done"] * len(images), rows
    for row, prediction in zip(rows, Model(file).predict(images, top=len(limits)), strict=True):
        applying = [(one["label"], one["probability"]) for one in row["answer"]["ranked"] if one["applies"]]
        assert [label for label, _ in applying] == [label for label, _ in prediction.labels]
        assert [share for _, share in applying] == pytest.approx([share for _, share in prediction.labels], abs=1e-4)
        assert ("no label applies" in row["text"]) == (not applying)
    assert {len(row["answer"]["ranked"]) for row in rows} == {len(limits)}
    assert all("&lt;img src=x" in row["seen"] and "<img" not in row["seen"] for row in rows)


@pytest.mark.parametrize("resizes", [False, True])
def test_values_are_in_the_users_unit(exported, pixels, tmp_path, resizes):
    images, names = png_images(pixels, tmp_path / "images"), tuple(f"{name} in mm" for name in CLASSES)
    numbers = {"mean": tuple(10.0 * i for i in range(len(names))), "deviation": (2.5,) * len(names)}
    file = with_output(exported, tmp_path / "model.onnx", Regression(classes=names, **numbers))
    if resizes:
        add_preprocessing(file)
    rows = browser.predict(bundled(file, tmp_path), images, tmp_path)
    assert [row["state"] for row in rows] == ["done"] * len(images), rows
    for row, prediction in zip(rows, Model(file).predict(images), strict=True):
        said = {one["label"]: one["value"] for one in row["answer"]["values"]}
        assert said == pytest.approx(dict(prediction.values), abs=1e-3)
        assert "in mm: " in row["seen"]


def test_what_is_no_image_is_said(exported, tmp_path):
    (tmp_path / "no.png").write_text("no image")
    (row,) = browser.predict(bundled(exported, tmp_path), [tmp_path / "no.png"], tmp_path)
    assert row["state"] == "failed"
    assert "cannot be read" in row["text"]


WORDS = (
    "the cat sat",
    "it was great . " * 9,
    "the mat " * 60,
    "play ing on the mat",
    f"great {HOSTILE}",
    "[SEP] a cat [PAD]",
)


@needs_tokenizers
def test_texts_are_predicted_as_by_the_runtime(text_file, text_net, tmp_path):
    texts = [*WORDS, *(probe for probe in PROBES if probe)]
    rows = browser.predict(bundled(text_file, tmp_path), [(text,) for text in texts], tmp_path)
    assert [row["state"] for row in rows] == ["done"] * len(texts), rows
    expected = Model(text_file).predict(texts)
    assert len({round(one.probability, 3) for one in expected}) > 10
    assert [best(row)[0] for row in rows] == [one.label for one in expected]
    assert [best(row)[1] for row in rows] == pytest.approx([one.probability for one in expected], abs=1e-4)
    is_cut = [bool(text_net.input.encode([text]).cut) for text in texts]
    assert any(is_cut)
    assert ["the end was cut off" in row["text"] for row in rows] == is_cut


@needs_tokenizers
def test_pairs_of_texts_have_two_fields(text_net, tmp_path):
    file = tmp_path / "made" / "model.onnx"
    file.parent.mkdir()
    net = text_net
    tokens = replace(net.input, pattern=PAIR)
    export_onnx(net, file, input=tokens, output=net.output, key="k1")
    pairs = [
        ("the cat sat", "on the mat"),
        ("great " * 40, "it was"),
        ("it was great", "a cat " * 30),
        ("a", "[SEP] b"),
    ]
    rows = browser.predict(bundled(file, tmp_path), pairs, tmp_path)
    assert [row["state"] for row in rows] == ["done"] * len(pairs), rows
    expected = Model(file).predict(pairs)
    assert [best(row)[1] for row in rows] == pytest.approx([one.probability for one in expected], abs=1e-4)
