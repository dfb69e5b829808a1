import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from effxfer.runtime.images.preprocess import (
    ImageError,
    Preprocess,
    decode,
    decode_with_facts,
    normalize,
    read_size,
)
from tests.data import corpus
from tests.data.corpus import IMAGES, encoded, photo, pixels

BAD = [kind for kind in IMAGES if kind.error]
GOOD = [kind for kind in IMAGES if not kind.error]


@pytest.mark.parametrize("kind", BAD, ids=lambda kind: kind.name)
def test_every_unusable_image_is_named_by_its_code(kind):
    with pytest.raises(ImageError) as caught:
        decode(kind.make())
    assert caught.value.code == kind.error
    assert caught.value.problem


@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.name)
def test_every_usable_image_becomes_8_bit_rgb_of_one_frame(kind):
    image = decode(kind.make())
    assert image.mode == "RGB"
    assert np.asarray(image).shape == (image.height, image.width, 3)


def test_file_and_bytes_give_the_same_pixels(tmp_path):
    file = tmp_path / "a.jpg"
    file.write_bytes(corpus.jpeg())
    assert decode(file).tobytes() == decode(corpus.jpeg()).tobytes()


def test_absent_file_is_an_image_error(tmp_path):
    with pytest.raises(ImageError, match="E300"):
        decode(tmp_path / "nowhere.jpg")


def test_error_shows_what_the_file_starts_with():
    with pytest.raises(ImageError, match="<html>"):
        decode(b"<html>404</html>")


@pytest.mark.parametrize(
    ("make", "channels"),
    [
        (corpus.gray16, 1), (corpus.rgb16, 3), (lambda: corpus.pnm(b"P5", 65535), 1),
        (lambda: corpus.pnm(b"P2", 65535), 1), (lambda: corpus.pnm(b"P6", 65535), 3),
    ],
)  # fmt: skip
def test_16_bits_are_scaled_and_not_saturated(make, channels):
    image, facts = decode_with_facts(make())
    expected = pixels()[..., :channels] if channels == 3 else np.repeat(pixels()[..., :1], 3, -1)
    assert facts.bits == 16
    np.testing.assert_array_equal(np.asarray(image), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    data = corpus.exif(orientation)
    image, facts = decode_with_facts(data)
    plain = Image.open(io.BytesIO(data))
    assert image.tobytes() == ImageOps.exif_transpose(plain).tobytes()
    assert facts.rotated == (orientation != 1)
    assert (facts.width, facts.height) == image.size == ((64, 48) if orientation < 5 else (48, 64))


def test_transparency_is_composited_on_white():
    image, facts = decode_with_facts(encoded(corpus.rgba(), "PNG"))
    array = np.asarray(image)
    assert facts.alpha
    assert (array[:, 0] == 255).all()
    np.testing.assert_array_equal(array[:, -1], pixels()[:, -1])


def test_first_frame_is_taken():
    image, facts = decode_with_facts(corpus.frames("WEBP", lossless=True))
    assert facts.animated
    np.testing.assert_array_equal(np.asarray(image), pixels(0))


def test_bomb_is_refused_from_its_header_with_the_limit_in_the_message():
    small = encoded(photo(), "PNG")
    with pytest.raises(ImageError, match="above the limit of 0 MP") as caught:
        decode(small, max_pixels=64 * 48 - 1)
    assert caught.value.code == "E307"
    assert decode(small, max_pixels=64 * 48).size == (64, 48)


def test_size_is_read_from_the_header():
    assert read_size(corpus.jpeg()[:-200]) == (64, 48)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_cost_the_image():
    data = corpus.jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken")
    assert decode(data).size == (64, 48)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "BMP"]), st.data())
def test_mutated_files_decode_or_raise_image_error(kind, data):
    raw = bytearray(encoded(photo(), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        outcome = decode(bytes(raw), max_pixels=1_000_000).mode
    except ImageError as error:
        outcome = error.code
    assert outcome in {"RGB", "E301", "E302", "E304", "E307"}


def test_normalize_is_contiguous_float32():
    out = normalize(np.zeros((2, 5, 5, 3), np.uint8), Preprocess(size=5, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    assert out.shape == (2, 3, 5, 5)
    assert (out == -1).all()


def test_preprocess_survives_json():
    import json

    preprocess = Preprocess(size=96, crop_pct=0.9, mean=(0.1, 0.2, 0.3))
    assert Preprocess.from_json(json.loads(json.dumps(preprocess.to_json()))) == preprocess


def test_import_is_light():
    heavy = "('PIL', 'torch', 'pydantic')"
    code = f"import sys, effxfer.runtime.images.preprocess; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", ["fine.avif", "animated.webp", "pages.tif", "stereo.mpo", "text.jpg"])
def test_a_fresh_process_knows_all_formats(name, tmp_path):
    kind = next(kind for kind in IMAGES if kind.name == name)
    (tmp_path / name).write_bytes(kind.make())
    code = (
        "import sys, pathlib; from effxfer.runtime.images.preprocess import ImageError, decode\n"
        "try: print(decode(pathlib.Path(sys.argv[1])).mode)\n"
        "except ImageError as error: print(error.code)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / name)], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == (kind.error or "RGB")
