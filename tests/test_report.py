import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.report import Curve, Measurement, Report, Table, cell, table_lines

numbers = st.floats(allow_nan=False)
words = st.text(max_size=8)
cells = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | numbers | words
measurements = st.builds(
    Measurement, name=words, value=numbers, unit=words, low=numbers, high=numbers, n=st.integers(0, 99), of=words
)
tables = st.builds(
    lambda title, columns, rows: Table(
        title=title, rows=tuple(dict(zip(columns, (row * len(columns))[: len(columns)], strict=True)) for row in rows)
    ),
    words,
    st.lists(words, min_size=1, max_size=3, unique=True),
    st.lists(st.lists(cells, min_size=1, max_size=3), max_size=3),
)
points = st.lists(st.tuples(numbers, numbers), max_size=4).map(tuple)
curves = st.builds(Curve, title=words, name=words, x=words, y=words, points=points, line=st.booleans())
reports = st.builds(
    Report,
    rows=st.lists(measurements, max_size=3).map(tuple),
    notes=st.lists(words, max_size=3).map(tuple),
    tables=st.lists(tables, max_size=2).map(tuple),
    curves=st.lists(curves, max_size=2).map(tuple),
)


@given(reports)
def test_survives_json(report):
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


@given(reports)
def test_any_report_can_be_printed(report):
    assert len(str(report).splitlines()) >= len(report.rows)


@given(reports, reports)
def test_a_sum_holds_both_in_order(one, other):
    both = one + other
    assert both.rows == one.rows + other.rows
    assert both.notes == one.notes + other.notes
    assert both.tables == one.tables + other.tables
    assert both.curves == one.curves + other.curves


@given(st.lists(numbers, min_size=1, max_size=9))
def test_repeats_are_told_by_median_range_and_number(values):
    found = Measurement.spread("x", values, "ms")
    assert found.low == min(values)
    assert found.high == max(values)
    assert found.low <= found.value <= found.high or math.isinf(found.value) or math.isnan(found.value)
    assert found.n == len(values)


@pytest.mark.parametrize(
    ("measurement", "text"),
    [
        (Measurement(name="x", value=0.5), "0.5"),
        (Measurement(name="x", value=93.456, unit="%", n=360, of="images"), "93.46 % of images (n=360)"),
        (Measurement(name="x", value=4.432, n=360, of="images"), "4.432 (n=360 images)"),
        (Measurement(name="x", value=2.0, unit="ms", low=1.0, high=3.0, n=5), "2 ms [1, 3] (n=5)"),
    ],
)
def test_reads_with_unit_range_denominator_and_n(measurement, text):
    assert str(measurement) == text


def test_a_single_value_is_its_own_range():
    assert (Measurement(name="x", value=3.0).low, Measurement(name="x", value=3.0).high) == (3.0, 3.0)


def test_rows_are_found_by_name():
    report = Report(rows=(Measurement(name="a", value=1.0), Measurement(name="b", value=2.0)))
    assert report["b"].value == report.get("b") == 2.0
    assert report.get("c") is None
    with pytest.raises(KeyError, match="c"):
        report["c"]


def test_a_table_puts_numbers_to_the_right():
    rows = ({"model": "a", "ms": 1.23456, "MB": None}, {"model": "longer", "ms": 10, "MB": 2.0})
    assert table_lines(Table(title="t", rows=rows)) == [
        "t",
        "model      ms  MB",
        "a       1.235",
        "longer     10   2",
    ]
    assert table_lines(Table(title="t", rows=())) == ["t", "  (empty)"]
    assert [cell(None), cell(1.0), cell(12), cell("x")] == ["", "1", "12", "x"]
