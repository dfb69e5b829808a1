"""The web page of a bundle, in a real browser, against the Python runtime."""

import pytest
from PIL import Image

from effxfer.deploy.bundle.bundle import Origin, write_bundle
from effxfer.deploy.bundle.ort_web import find_ort_web
from effxfer.report import Report, Table
from effxfer.runtime.model import Model
from tests.deploy import browser

pytestmark = pytest.mark.skipif(not (browser.BROWSER and browser.ORT_WEB), reason=browser.MISSING)
SPEED = Report(tables=(Table(title="", rows=({"model": "a", "p50 ms": 1.0},)),))


@pytest.fixture
def bundle(exported, tmp_path):
    origin = Origin(title="<b>Shapes", backbone="tiny", data="shapes")
    web = find_ort_web(browser.ORT_WEB)
    return write_bundle(tmp_path / "bundle", [exported], origin=origin, accuracy=Report(), speed=SPEED, web=web)


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


def test_the_page_says_what_the_runtime_says(bundle, exported, pixels, tmp_path):
    images = write(pixels, tmp_path / "images")
    rows = browser.classify(bundle, images, tmp_path)
    assert [row["state"] for row in rows] == ["done"] * len(images), rows
    expected = Model(exported).predict(images)
    assert len({one.label for one in expected}) > 1
    assert [row["label"] for row in rows] == [one.label for one in expected]
    assert [float(row["share"]) for row in rows] == pytest.approx([one.probability for one in expected], abs=0.02)


def test_what_is_no_image_is_said(bundle, tmp_path):
    (tmp_path / "no.png").write_text("no image")
    (row,) = browser.classify(bundle, [tmp_path / "no.png"], tmp_path)
    assert row["state"] == "failed"
    assert "cannot be classified" in row["text"]
