"""Every code that the package reports has an entry with cause and cure, and every entry is reported."""

import re

import pytest

from docs.generate.codes import entries, page, reported
from tests.contracts.test_hints import mistakes

ENTRIES = entries()


def test_every_code_has_an_entry():
    assert sorted(reported().keys() - ENTRIES.keys()) == []


def test_every_entry_is_reported():
    assert sorted(ENTRIES.keys() - reported().keys()) == []


def test_entries_are_in_order():
    assert list(ENTRIES) == sorted(ENTRIES)


@pytest.mark.parametrize("code", ENTRIES)
def test_an_entry_has_a_cause_and_a_cure_in_sentences(code):
    assert ENTRIES[code].keys() == {"cause", "cure"}
    for text in ENTRIES[code].values():
        assert not text[0].islower()
        assert text.endswith(".")
        assert all(len(sentence.split()) <= 25 for sentence in re.split(r"(?<=[.:;]) ", text))


@pytest.mark.parametrize("code", ENTRIES)
def test_what_a_cure_names_exists(code):
    assert mistakes(ENTRIES[code]["cure"]) == []


def test_the_page_names_the_exit_code_and_the_modules():
    section = page().partition("## E404\n")[2].partition("\n## ")[0]
    assert "Exit code 4 (model file)" in section
    assert "`effxfer/artifact.py`" in section
