import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.data.labels.cells import Problem, label_reader
from effxfer.data.settings import DataSettings


def read(*cells, **options):
    return label_reader(DataSettings(source="t.csv", **options))(list(cells))


NAMES = {"labels": "multi"}
FLAGS = {"labels": "multi", "label_columns": ("dog", "beach", "sea")}
VALUE = {"labels": "value"}
VALUES = {"labels": "value", "label_columns": ("weight", "age")}


@pytest.mark.parametrize("cell", ["cat", "1", "01", "NA", "none", "a|b"])
def test_a_class_is_its_cell(cell):
    assert read(cell) == cell


@pytest.mark.parametrize("cell", ["", "NaN", "null"])
def test_a_class_cannot_be_absent(cell):
    assert read(cell) == Problem("E334", f"no label ({cell!r})", "label the image or remove the row")


@pytest.mark.parametrize("cell", ["", "beach", "beach|dog", "NA"])
def test_a_cell_of_names_may_be_empty(cell):
    assert read(cell, **NAMES) == cell


@pytest.mark.parametrize(
    ("cell", "code"), [("nan", "E334"), ("NULL", "E334"), ("['beach', 'dog']", "E342"), ("[]", "E342")]
)
def test_a_cell_of_names_is_no_gap_and_no_list_of_python(cell, code):
    problem = read(cell, **NAMES)
    assert problem.code == code
    assert cell in problem.text
    assert problem.hint


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        (("1", "0", ""), "10?"),
        (("true", "False", "nan"), "10?"),
        (("Yes", "NO", "-1"), "10?"),
        (("1.0", "0.0", "-1.0"), "10?"),
        (("", "NA", "null"), "???"),
    ],
)
def test_flags_are_one_zero_or_unknown(cells, text):
    assert read(*cells, **FLAGS) == text


@pytest.mark.parametrize("cell", ["2", "maybe", "0.5", "-2", "10", "x"])
def test_another_flag_is_named_with_its_column(cell):
    problem = read("1", cell, "0", **FLAGS)
    assert (problem.code, problem.text) == ("E342", f"'dog' is {cell!r}, neither 1 nor 0")


@pytest.mark.parametrize(
    ("cell", "text"),
    [("3.50", "3.5"), ("35e-1", "3.5"), ("+3.5", "3.5"), ("-0", "0"), (".5", "0.5"), ("5.", "5"), ("7", "7"),
     ("16777217", "16777216"), ("1000001", "1000001"), ("0.00001", "1e-05"), ("1e-50", "0"), ("0.1", "0.1"),
     ("3.4028235e38", "3.4028235e+38")],
)  # fmt: skip
def test_a_value_has_one_form_as_float32(cell, text):
    assert read(cell, **VALUE) == text


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_the_text_of_a_value_is_the_value(number):
    assert float(read(repr(number), **VALUE)) == pytest.approx(number, rel=1e-6, abs=1e-44)


@pytest.mark.parametrize(
    "cell", ["cat", "inf", "-Infinity", "1e39", "1e999", "3,5", "1_000", "٣", "0x10", "1 2", "--1"]
)
def test_what_is_no_finite_number_is_named_with_its_column(cell):
    problem = read("", cell, **VALUES)
    assert (problem.code, problem.text) == ("E342", f"'age' is {cell!r}, no finite number")


@pytest.mark.parametrize("gap", ["", "nan", "NaN", "NA", "null"])
def test_a_value_may_be_unknown_but_not_all_of_a_row(gap):
    assert read(gap, "4", **VALUES) == "nan 4"
    assert read("4", gap, **VALUES) == "4 nan"
    assert read(gap, gap, **VALUES) == Problem("E334", "no value in 'weight', 'age'", "fill one in, or remove the row")
