import os

import pytest

from effxfer.data.texts import numbered_lines as module
from effxfer.data.texts.numbered_lines import numbered_lines
from effxfer.errors import DataError


def lines(tmp_path, content: bytes, encoding: str = "utf-8") -> list[tuple[int, str]]:
    (tmp_path / "t.txt").write_bytes(content)
    return list(numbered_lines(tmp_path / "t.txt", encoding))


def refuse(tmp_path, content: bytes, code: str, encoding: str = "utf-8") -> str:
    with pytest.raises(DataError) as caught:
        lines(tmp_path, content, encoding)
    assert caught.value.code == code
    return str(caught.value)


def test_any_line_ends_and_a_byte_order_mark_are_taken(tmp_path):
    assert lines(tmp_path, b"\xef\xbb\xbfa\r\nb\rc\n\n d ") == [(1, "a"), (2, "b"), (3, "c"), (4, ""), (5, " d ")]
    assert lines(tmp_path, b"") == []


def test_separators_of_unicode_belong_to_a_text(tmp_path):
    assert lines(tmp_path, "a\u2028b\x85c\x0cd\n".encode()) == [(1, "a\u2028b\x85c\x0cd")]


def test_another_encoding_is_read_if_it_is_named(tmp_path):
    content = "caf\u00e9\n".encode("latin-1")
    assert lines(tmp_path, content, "latin-1") == [(1, "caf\u00e9")]
    assert lines(tmp_path, "caf\u00e9".encode("utf-16"), "utf-16") == [(1, "caf\u00e9")]
    text = refuse(tmp_path, b"a\n" + content, "E350")
    assert "byte 0xe9 in line 2" in text
    assert "latin-1" in text


def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path):
    assert "NUL byte in line 2" in refuse(tmp_path, b"a\n\0", "E350")
    assert "is UTF-16 text" in refuse(tmp_path, "a".encode("utf-16"), "E350")
    assert "CP1252" in refuse(tmp_path, b"\x81", "E350", "cp1252")
    assert "UTF-16" in refuse(tmp_path, b"\xff\xfea", "E350", "utf-16")


def test_a_line_of_a_megabyte_is_read_and_longer_ones_are_named(tmp_path, monkeypatch):
    assert lines(tmp_path, b"a" * 1_000_000 + b"\nb") == [(1, "a" * 1_000_000), (2, "b")]
    monkeypatch.setattr(module, "LONGEST_TEXT", 3)
    assert "line 2 has 5 characters, 3 at most" in refuse(tmp_path, b"ab\nabcd\n", "E352")


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no file") as caught:
        list(numbered_lines(tmp_path / "absent"))
    assert caught.value.code == "E310"
    with pytest.raises(DataError, match="it is a folder"):
        list(numbered_lines(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="it is a named pipe"):
        list(numbered_lines(tmp_path / "pipe"))
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(1_000_000_000)
    with pytest.raises(DataError, match="1000 MB is above the limit of 256 MB") as caught:
        list(numbered_lines(tmp_path / "large"))
    assert caught.value.code == "E352"
