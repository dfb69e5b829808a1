import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.data.texts.text_damage import damage_of, misread_characters

WORD = st.text("abc\u00e9\u00fc\u00df\u20ac\u201c\u2019\u00f1", min_size=1, max_size=12)


@given(WORD, st.sampled_from(["latin-1", "cp1252"]))
def test_utf_8_that_is_read_in_another_encoding_is_recognized(word, encoding):
    try:
        wrong = word.encode().decode(encoding)
    except UnicodeDecodeError:
        return
    assert bool(misread_characters(f"a {wrong} b")) == (not word.isascii())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "caf\u00e9",
        "\u00d1u\u00f1oa",
        "na\u00efve \u20ac5",
        "\u201ca\u201d \u2013 b\u2026",
        "\u4e2d\u6587",
        "\u00e0\u00e9\u00ef",
    ],
)
def test_letters_and_quotes_are_no_damage(text):
    assert damage_of(text) == {}


@pytest.mark.parametrize(
    ("text", "damage"),
    [
        ("caf\u00c3\u00a9", {"W352": "\u00c3\u00a9"}),
        ("it\u00e2\u20ac\u2122s", {"W352": "\u00e2\u20ac\u2122"}),
        ("caf\ufffd", {"W352": "\ufffd"}),
        ("a\x96b", {"W353": "U+0096"}),
        ("a\x07b", {"W353": "U+0007"}),
        ("a\tb\r\nc", {}),
        ("a &amp; b", {"W354": "&amp;"}),
        ("a &#39; b", {"W354": "&#39;"}),
        ("a<br />b", {"W354": "<br />"}),
        ("AT&T; a < b > c <unk>", {}),
        ("\ufffd\x00<b>", {"W352": "\ufffd", "W353": "U+0000", "W354": "<b>"}),
    ],
)
def test_damage_is_named_with_an_example(text, damage):
    assert damage_of(text) == damage
