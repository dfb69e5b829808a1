from effxfer.benchmark.measure.cold_start import ColdStart
from effxfer.benchmark.protocol.latency import Timing
from effxfer.benchmark.report import MACHINE, REPEAT, BenchResult, facts_table, report


def timing(name, ratio=1.0, spread=0.0, mean=5.0):
    return Timing(
        name=name, p50=4.0, p95=6.0, p99=7.0, mean=mean, ratio=ratio, ratio_low=ratio - spread,
        ratio_high=ratio + spread, n=100, rounds=5, threads=1, first_ms=9.0, load_ms=20.0,
    )  # fmt: skip


def found(*timings, **more):
    fed = {timing.name: 8 for timing in timings}
    plain = {"baseline": "a", "batch": 8, "batches": fed, "sizes": {}, "peaks": {}, "cold": {}}
    return BenchResult(timings=timings, **{**plain, **more})


def test_throughput_counts_images_and_slow_calls():
    made = report(found(timing("a", mean=5.0), timing(REPEAT)), 0.01)
    assert made["throughput/a"].value == 8 / 0.005
    assert made.tables[0].rows[0]["images/s"] == 1600


def test_cold_starts_are_told_with_their_range():
    starts = [ColdStart(total_ms=t, import_ms=t - 30, load_ms=20, first_ms=10) for t in (300.0, 500.0, 400.0)]
    row = report(found(timing("a"), timing(REPEAT), cold={"a": starts}), 0.01)["cold/a"]
    assert (row.value, row.low, row.high, row.n) == (400, 300, 500, 3)


def test_an_interval_that_stayed_wide_is_said():
    narrow = report(found(timing("a"), timing("b", 0.5, 0.004), timing(REPEAT, 1.0, 0.009)), 0.01)
    assert not any("time was up" in note for note in narrow.notes)
    wide = report(found(timing("a"), timing("b", 0.5, 0.1), timing(REPEAT, 1.0, 0.1)), 0.01)
    (note,) = [note for note in wide.notes if "time was up" in note]
    assert "the ratio of b, the noise was known to ±1.0%" in note


def test_the_machine_is_told_without_names_of_hosts_and_folders():
    table = facts_table()
    assert table.title == MACHINE
    assert {row["fact"] for row in table.rows} >= {"cpu", "arch", "usable", "onnxruntime"}
    assert "/" not in " ".join(str(row["found"]) for row in table.rows if row["fact"] != "cpu")
