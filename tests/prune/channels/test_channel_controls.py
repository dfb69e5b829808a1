import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.prune.channels.channel_controls import (
    ControlResult,
    control_is_better,
    largest_within,
    report_channel_controls,
)
from effxfer.prune.channels.latency_loop import PairedTiming


def contender(name, scores, ratio, advice="", epochs=3):
    timing = PairedTiming(ratio=ratio, low=ratio - 0.01, high=ratio + 0.01, ms=4 * ratio, dense_ms=4.0, n=9)
    both = {"val": scores, "test": [score - 1 for score in scores]}
    return ControlResult(name=name, epochs=epochs, scores=both, timing=timing, macs=20_000_000, advice=advice)


DENSE = contender("dense", [92.0], 1.0, epochs=0)
PRUNED = contender("pruned", [90.0], 0.5)


@given(st.lists(st.integers(0, 50), unique=True).map(sorted), st.integers(0, 60))
def test_the_largest_size_within_a_limit_is_found_in_few_measurements(sizes, limit):
    asked = []

    def cost(size):
        asked.append(size)
        return 2 * size

    found = largest_within(sizes, cost, limit)
    assert found == max((size for size in sizes if 2 * size <= limit), default=None)
    assert len(asked) <= len(sizes).bit_length()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_where_costs_waver_what_is_found_is_within_the_limit(costs):
    found = largest_within(range(len(costs)), costs.__getitem__, 0.5)
    assert found is None or costs[found] <= 0.5


@pytest.mark.parametrize(
    ("scores", "ratio", "won"),
    [
        ([90.1], 0.5, True),
        ([90.1], 0.515, True),
        ([99.0], 0.516, False),
        ([90.0], 0.3, False),
        ([89, 91, 92], 0.4, True),
    ],
)
def test_a_control_wins_if_it_is_better_and_at_most_3_percent_slower(scores, ratio, won):
    control = contender("smaller input (72 px)", scores, ratio, advice="take size = 72")
    assert control_is_better(control, PRUNED) is won
    notes = report_channel_controls(DENSE, PRUNED, [control]).notes
    assert len(notes) == won
    if won:
        assert notes[0].startswith("the control smaller input (72 px) wins: ")
        assert f"at {ratio:.3f} of the dense p50, the pruned network 90.00 % at 0.500; prefer it" in notes[0]
        assert notes[0].endswith(": take size = 72")


def test_the_report_has_ranges_counts_and_points():
    other = contender("timm:small", [80.0, 84.0, 83.0], 0.45)
    found = report_channel_controls(DENSE, PRUNED, [contender("uniform", [88.0], 0.5), other])
    row = found["timm:small accuracy/val"]
    assert (row.value, row.low, row.high, row.n) == (83.0, 80.0, 84.0, 3)
    assert (found["timm:small p50/ratio"].low, found["pruned p50/ratio"].high) == (pytest.approx(0.44), 0.51)
    assert found["uniform macs"].value == 20
    assert found.get("pruned accuracy/val") is None, "the stage has said it"
    table = found.tables[0].rows
    assert [line["network"] for line in table] == ["dense", "pruned", "uniform", "timm:small"]
    assert [line["n"] for line in table] == [1, 1, 1, 3]
    assert [line["epochs"] for line in table] == [0, 3, 3, 3]
    assert [line["val range"] for line in table] == ["", "", "", "80.00 to 84.00"]
    assert len({tuple(line) for line in table}) == 1, "all lines have the same columns"
    assert [curve.points for curve in found.curves][-1] == ((0.45, 80.0), (0.45, 84.0), (0.45, 83.0))
    assert found.notes == ()


def test_without_repeats_there_are_no_ranges():
    found = report_channel_controls(DENSE, PRUNED, [contender("uniform", [88.0], 0.5)])
    assert "val range" not in found.tables[0].rows[0]
