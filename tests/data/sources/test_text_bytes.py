from pathlib import Path

import pytest

from effxfer.data.sources.text_bytes import decoding_error, require_text, text_lines
from effxfer.errors import DataError

FILE = Path("x.txt")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"PK\x03\x04", "is a zip or an Excel file"),
        (b"%PDF-1.7", "is a PDF file"),
        (b"\x1f\x8b\x08", "is a gzip file"),
        (b"\x89PNG\r\n", "is an image"),
        (b"{\\rtf1", "is a Rich Text file"),
        ("a".encode("utf-16"), "is UTF-16 text"),
        (b"a\nb\0c", "holds a NUL byte in line 2"),
    ],
)
def test_what_is_no_text_is_named(data, text):
    with pytest.raises(DataError, match=text) as caught:
        require_text(data, FILE, "E350")
    assert caught.value.code == "E350"
    assert "save it as UTF-8" in caught.value.hint


@pytest.mark.parametrize("data", [b"", b"plain", "caf\u00e9".encode(), b"\xef\xbb\xbfa", b"\xe9", b"\x01\x02"])
def test_what_may_be_text_passes(data):
    require_text(data, FILE, "E350")


def test_utf_16_may_hold_zero_bytes():
    require_text("ab".encode("utf-16"), FILE, "E350", "utf-16")
    assert list(text_lines("a\nb".encode("utf-16"), "utf-16")) == ["a\n", "b"]


def test_lines_have_no_byte_order_mark_and_keep_their_ends_on_request():
    assert list(text_lines(b"\xef\xbb\xbfa\r\nb\rc\n")) == ["a\r\n", "b\r", "c\n"]
    assert list(text_lines(b"a\r\nb\rc\n", newline=None)) == ["a\n", "b\n", "c\n"]
    assert list(text_lines("a\u2028b\x0bc\n".encode(), newline=None)) == ["a\u2028b\x0bc\n"]


def test_the_first_wrong_byte_is_named_with_its_line():
    assert decoding_error(b"a\nb\xff\n\xfe", FILE, "E350").problem == "x.txt is not UTF-8 text: byte 0xff in line 2"
    assert decoding_error(b"a\x81", FILE, "E350", "cp1252").problem.startswith("x.txt is not CP1252 text: byte 0x81")
    assert decoding_error(b"a", FILE, "E350").problem == "x.txt is not UTF-8 text"
