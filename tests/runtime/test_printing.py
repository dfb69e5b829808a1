import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.runtime.__main__ import line_of
from effxfer.runtime.printing import csv_cell, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat", "cat"),
        ("Käfer 🐞 甲虫\u3000\xa0", "Käfer 🐞 甲虫\u3000\xa0"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x1b[2J\x9b31m\x7f\x00", r"\x1b[2J\x9b31m\x7f\x00"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("no \udcff text", r"no \udcff text"),
        (Ellipsis, "Ellipsis"),
    ],
)
def test_a_line_shows_what_a_terminal_would_obey(text, shown):
    assert printable(text) == shown


@given(st.text())
def test_any_text_is_one_line_that_can_be_written(text):
    shown = printable(text)
    assert shown.splitlines() in ([], [shown])
    shown.encode()
    assert printable(shown) == shown


@given(st.text())
def test_a_line_of_json_says_what_it_said(text):
    line = line_of({"label": text})
    assert json.loads(line) == {"label": text}
    assert printable(line) == line


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|'/c calc'!A0"])
def test_no_cell_is_a_formula(text):
    assert csv_cell(text) == f"'{text}"


def test_other_cells_stay():
    for value in ("cat", "a=b", "", 0.5, -0.5, None, "'quoted'"):
        assert csv_cell(value) == value
