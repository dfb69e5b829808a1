import pytest

from effxfer.runtime.text import fields

GOOD = {"kind": "text", "size": 96, "pad": 0, "pattern": "{text}", "stride": 3, "tokenizer": "a" * 64}


def test_known_fields_are_returned_without_the_kind():
    assert fields.tokens(GOOD) == {name: value for name, value in GOOD.items() if name != "kind"}


@pytest.mark.parametrize("name", ["pattern", "stride"])
def test_some_fields_have_defaults(name):
    assert name not in fields.tokens({key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "image"}, "no table of kind text"),
        ({"size": 0}, "size is 0"),
        ({"size": 10**7}, "size is 10000000"),
        ({"size": True}, "size is True"),
        ({"size": 9.0}, "size is 9.0"),
        ({"pad": -1}, "pad is -1"),
        ({"pad": 2**31}, "pad is 2147483648"),
        ({"stride": "1"}, "stride is 1"),
        ({"pattern": None}, "pattern is None"),
        ({"pattern": "x" * 1001}, "no text of at most 1000"),
        ({"tokenizer": "A" * 64}, "no SHA-256"),
        ({"tokenizer": "../../etc"}, "no SHA-256"),
        ({"trust": True}, "unknown field 'trust'"),
    ],
)
def test_an_unknown_field_or_one_out_of_range_is_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        fields.tokens({**GOOD, **change})


@pytest.mark.parametrize("name", ["size", "pad", "tokenizer"])
def test_a_missing_field_is_refused(name):
    with pytest.raises(ValueError, match=f"has no field '{name}'"):
        fields.tokens({key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize("raw", [None, [], "text", {}])
def test_what_is_no_table_is_refused(raw):
    with pytest.raises(ValueError, match="no table of kind text"):
        fields.tokens(raw)
