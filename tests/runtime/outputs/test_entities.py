import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.runtime.outputs.entities import read_scheme

TAGS = ("B-LOC", "B-PER", "I-LOC", "I-PER", "O")
LONG = ("B-X", "E-X", "I-X", "O", "S-X", "B-Y", "L-Y", "U-Y")


def naive(tags: list[str]) -> list[tuple[int, int, str]]:
    """Entities of one text, word by word."""
    entities, begin, kind = [], None, ""
    for place, tag in enumerate([*tags, "O"]):
        mark, _, name = tag.partition("-")
        before = tags[place - 1] if place else "O"
        goes_on = begin is not None and name == kind and mark not in "BSUO" and before[0] not in "ESLU"
        if begin is not None and not goes_on:
            entities.append((begin, place - 1, kind))
            begin = None
        if tag != "O" and not goes_on:
            begin, kind = place, name
    return entities


def find(texts: list[list[str]], names=TAGS) -> list[list[tuple[int, int, str]]]:
    scheme = read_scheme(names)
    flat = np.array([names.index(tag) for text in texts for tag in text], np.int64)
    number = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    starts = np.cumsum([0, *map(len, texts)])
    found = scheme.find(flat, number)
    by_text = [[] for _ in texts]
    for first, last, kind in zip(*(field.tolist() for field in found), strict=True):
        text = int(number[first])
        by_text[text].append((first - starts[text], last - starts[text], scheme.types[kind]))
    return by_text


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O", [(0, 1, "PER")]),
        ("O I-PER I-PER", [(1, 2, "PER")]),  # an I behind O begins an entity
        ("B-PER I-LOC", [(0, 0, "PER"), (1, 1, "LOC")]),  # and so does one of another type
        ("B-PER B-PER I-PER", [(0, 0, "PER"), (1, 2, "PER")]),
        ("I-PER O I-PER", [(0, 0, "PER"), (2, 2, "PER")]),
        ("O O", []),
        ("", []),
    ],
)
def test_entities_by_hand(tags, expected):
    assert find([tags.split()]) == [expected]


@given(st.lists(st.lists(st.sampled_from(TAGS), max_size=9), max_size=5))
def test_entities_are_those_of_a_reading_word_by_word(texts):
    assert find(texts) == [naive(text) for text in texts]


@given(st.lists(st.lists(st.sampled_from(LONG), max_size=9), max_size=5))
def test_marks_of_ends_are_read_too(texts):
    assert find(texts, LONG) == [naive(text) for text in texts]


def test_other_tags_mark_no_entities():
    for names in (("NOUN", "VERB"), ("O",), ("B-X", "O", "PUNCT"), ("B-", "O")):
        assert read_scheme(names) is None
