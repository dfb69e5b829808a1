from effxfer.benchmark.sweep import sweep
from tests.benchmark.models import linear


def test_every_pair_of_threads_and_batch_is_measured_for_every_model(tmp_path):
    models = {"a": linear(tmp_path / "a.onnx"), "b": linear(tmp_path / "b.onnx", classes=2)}
    report = sweep(models, baseline="a", threads=[1, 2, 1], batches=[1, 4], max_seconds=0.4, memory=False)
    rows = report.tables[0].rows
    assert [(row["threads"], row["batch"], row["model"]) for row in rows] == [
        (threads, batch, name) for threads in (1, 2) for batch in (1, 4) for name in ("a", "b")
    ]
    for row in rows:
        assert row["ms per image"] == row["p50 ms"] / row["batch"]
        assert row["images/s"] > 0
        assert row["peak MB"] is None
    assert [row["p50 ratio"] for row in rows if row["model"] == "a"] == ["1.000"] * 4
    assert report["sweep/p50/b/2 threads/batch 4"].value == rows[-1]["p50 ms"]
    assert not [row.name for row in report.rows if row.name.startswith("p50/")], "they are no models of their own"


def test_a_pair_that_a_file_cannot_take_is_blank_with_a_note(tmp_path):
    models = {"four": linear(tmp_path / "a.onnx", batch=4), "free": linear(tmp_path / "b.onnx")}
    report = sweep(models, baseline="four", threads=[1], batches=[1, 4], max_seconds=0.4, memory=False)
    (blank, alone, four, free) = report.tables[0].rows
    assert [(row["model"], row["batch"]) for row in (blank, four)] == [("four", 1), ("four", 4)]
    assert {blank[name] for name in ("p50 ms", "p95 ms", "ms per image", "images/s", "p50 ratio")} == {None}
    assert alone["images/s"] > 0
    assert alone["p50 ratio"] is None, "there is no baseline at this batch"
    assert (four["p50 ratio"], bool(free["p50 ratio"])) == ("1.000", True)
    assert "sweep/p50/four/1 threads/batch 1" not in {row.name for row in report.rows}
    note = "four takes exactly 4 images per call: blank cells were not measured"
    assert report.notes == (note,)
    none = sweep({"four": models["four"]}, baseline="four", threads=[1], batches=[8], max_seconds=0.2, memory=False)
    assert none.rows == ()
    assert len(none.tables[0].rows) == 1
