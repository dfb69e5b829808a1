import io

import pytest

from effxfer.runtime.images.preprocess import ImageError, decode, read_size
from effxfer.runtime.images.slow import PIECE, SCAN_BYTES, count_scans, is_netpbm
from tests.data import corpus

SCAN = b"\xff\xda\x00\x08\x01"


@pytest.mark.parametrize("before", [0, 1, PIECE - 3, PIECE - 1, PIECE, PIECE + 1])
def test_scans_are_counted_across_pieces_and_once(before):
    stream = io.BytesIO(b"x" * before + SCAN + b"y" * (2 * PIECE) + SCAN)
    stream.seek(7)
    assert count_scans(stream) == 2
    assert stream.tell() == 7
    assert len(SCAN) == SCAN_BYTES


def test_what_lies_behind_a_photo_is_no_scan():
    """Phones put a film behind a photo: chance alone makes `ff da` of it."""
    assert decode(corpus.jpeg() + b"\xff\xda" * 500).size == (64, 48)


def test_usual_progressive_photos_are_far_from_the_limit():
    assert 1 < count_scans(io.BytesIO(corpus.jpeg(progressive=True))) < 20


def test_a_size_is_read_of_what_is_too_slow_to_decode():
    data = corpus.scan_bomb()
    assert read_size(data) == (64, 48)
    with pytest.raises(ImageError, match=r"E307 210 scans are above the limit of 100"):
        decode(data)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"P5 8 8 255\n", True),
        (b"P6\n# CREATOR: GIMP\n8 8\n# more\n65535\n", True),
        (b"P4\n8 8\n", True),
        (b"P5 8 8 ", False),
        (b"P6erson of interest", False),
        (b"P3 of us", False),
        (b"P6 #" + b"x" * 4000, False),
        (b"Pf 8 8 -1.0\n", False),
        (b"PyP 8 8 255\n", False),
    ],
)
def test_portable_maps_by_their_header(start, says):
    assert is_netpbm(start) == says
