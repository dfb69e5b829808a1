import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.page.columns import NOTHING, Columns, column_texts, is_number
from effxfer.report import Table


def test_columns_are_found_by_name():
    row = {"model": "a", "n": 1, "accuracy % (test)": 1.0, "p50 ratio": 1.0, "p50 ms": 2.0, "size MB": 3.0}
    found = Columns.of(Table(title="t", rows=(row,)))
    assert found == Columns(
        model="model", accuracy="accuracy % (test)", latency="p50 ms", ratio="p50 ratio", size="size MB"
    )
    assert Columns.of(Table(title="t", rows=())) == Columns()


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([84.13, 83.9], ["84.1", "83.9"]),
        ([0.0123, 4.0], ["0.0123", "4.0000"]),
        ([1, 20, None], ["1", "20", NOTHING]),
        (["a", "", True], ["a", NOTHING, "True"]),
        ([math.nan, math.inf, 2.0], [NOTHING, NOTHING, "2.00"]),
        ([0.0, 123456.0], ["0", "123456"]),
    ],
)
def test_one_column_has_one_number_of_decimals(values, texts):
    assert column_texts(values) == texts


@given(st.lists(st.floats(0.001, 1e6), min_size=1))
def test_decimal_points_line_up_and_nothing_is_lost(values):
    texts = column_texts(values)
    assert len({len(text.partition(".")[2]) for text in texts}) == 1
    assert all(float(text) == pytest.approx(value, rel=0.06) for text, value in zip(texts, values, strict=True))


@pytest.mark.parametrize(
    "text",
    ["", NOTHING, "12", "-1.5", "1e-05", "84.1 %", "0.300 [0.29, 0.31]", "3.1 ms (n=4)", "0.483 to 0.487", "-1 to 3 %"],
)
def test_numbers(text):
    assert is_number(text)


@pytest.mark.parametrize("text", ["yes", "80 % ticket", "3 images", "v2", "1 to many"])
def test_words(text):
    assert not is_number(text)
