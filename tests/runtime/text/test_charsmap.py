import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.runtime.text import charsmap as module
from effxfer.runtime.text.charsmap import check_charsmap
from effxfer.runtime.text.loading import load_tokenizer
from tests.runtime.text.tiny_tokenizers import charsmap, unigram


def check(table: bytes) -> int:
    return check_charsmap(base64.b64encode(table).decode())


def test_a_table_is_accepted_and_the_library_replaces_by_it():
    assert check(charsmap()) == 1
    assert next(load_tokenizer(unigram()).encode(["a c"])).tokens == ["▁b", "▁", "c"]


def test_the_longest_replacement_is_stated_and_limited():
    assert check(charsmap(replacement="ab\u00e9\0".encode())) == 4
    with pytest.raises(ValueError, match="a replacement of 65 bytes"):
        check(charsmap(replacement=b"x" * 65))


def changed(position: int, unit: int) -> bytes:
    table = charsmap()
    return table[: 4 + 4 * position] + unit.to_bytes(4, "little") + table[8 + 4 * position :]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (b"", "size is wrong"),
        (b"\xff\xff\xff\xff", "size is wrong"),
        (charsmap()[:40], "size is wrong"),
        ((3).to_bytes(4, "little") + bytes(8), "size is wrong"),
        (changed(0, 800 << 10), "outside of itself"),
        (changed(0, 1 << 31), "outside of itself"),
        (changed(7, (1 << 9) | (1 << 30)), "outside of itself"),
        (changed(512, 1 << 31 | 2), "outside of its replacements"),
        (charsmap(replacement=b"\x80\0"), "outside of its replacements"),
        (charsmap(replacement=b"b\0\xff"), "not UTF-8"),
        (charsmap(replacement=b""), "outside of its replacements"),
    ],
)
def test_a_table_that_would_end_the_process_is_refused(table, reason):
    with pytest.raises(ValueError, match=reason):
        check(table)


def test_what_is_no_base64_or_too_long_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="no base64"):
        check_charsmap("\u00e9")
    monkeypatch.setattr(module, "LARGEST", 3)
    with pytest.raises(ValueError, match="4 characters, 3 at most"):
        check_charsmap("AAAA")


@given(st.integers(4, 3079), st.integers(1, 255), st.text("abc\u00e9", max_size=8))
def test_a_damaged_table_is_refused_or_harmless(position, change, text):
    """The library panics, or ends this process, where the check overlooks something."""
    table = bytearray(charsmap())
    if position < len(table):
        table[position] ^= change
    try:
        check(bytes(table))
    except ValueError:
        return
    assert len(list(load_tokenizer.__wrapped__(unigram(bytes(table))).encode([text]))) == 1
