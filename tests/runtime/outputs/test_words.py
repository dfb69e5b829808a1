from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.runtime.outputs.words import find_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("  \n", []),
        ("It's Peter O'Neill.", ["It", "'s", "Peter", "O'Neill", "."]),
        ("U.N. and U.S.A.", ["U.N.", "and", "U.S.A."]),
        ("well-known, 1,000.5 at 10:30", ["well-known", ",", "1,000.5", "at", "10:30"]),
        ("Zu\u0308rich Łódź", ["Zu\u0308rich", "Łódź"]),
        ("東京 a", ["東", "京", "a"]),
        ('"Quoted"', ['"', "Quoted", '"']),
    ],
)
def test_words_by_hand(text, words):
    assert [text[start:end] for start, end in find_words(text)] == words


@given(st.text(max_size=60))
def test_words_are_in_order_and_hold_all_but_blanks(text):
    places = find_words(text)
    assert all(start < end for start, end in places)
    assert all(before[1] <= after[0] for before, after in pairwise(places))
    inside = {place for start, end in places for place in range(start, end)}
    assert all(text[place].isspace() or place in inside for place in range(len(text)))
