import pytest

from effxfer.errors import GateError, ModelFileError
from effxfer.report import Measurement, Report, Table
from effxfer.stages import STAGES
from effxfer.stages.deliver.bench import CLASS_DROP, bench, choose, class_losses, model_files, summarize
from effxfer.stages.deliver.decisions import class_counts
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.run import compare
from effxfer.stages.settings.common import SHIP
from tests import tiny


@pytest.fixture(scope="module")
def exports(tmp_path_factory, dense, exported, data):
    folder = tmp_path_factory.mktemp("exports")
    small = tiny.stage("prune channels", dense, folder / "small", data)
    return {
        "dense-onnx": exported,
        "small-onnx": tiny.stage("export", small, folder / "small-onnx", data, int8=False),
    }


@pytest.fixture(scope="module")
def compared(tmp_path_factory, exports):
    context = RunContext(out=tmp_path_factory.mktemp("bench") / "bench")
    return compare("bench", STAGES["bench"].function, tiny.settings_of("bench"), exports, context)


def test_every_file_is_measured_beside_the_baseline(compared):
    rows = compared.manifest.report.tables[0].rows
    assert rows[0]["model"] == "dense-onnx fp32"
    assert rows[-1]["model"] == "small-onnx fp32"
    assert len(rows) == 3, "eager torch is measured, too"
    assert rows[0]["p50 ratio"] == 1
    assert all(row["p50 ms"] > 0 for row in rows)
    assert rows[-1]["size MB"] < rows[0]["size MB"]


def test_accuracy_is_that_of_the_exported_file(compared, exports):
    for row in (compared.manifest.report.tables[0].rows[0], compared.manifest.report.tables[0].rows[-1]):
        name, _, precision = row["model"].partition(" ")
        assert row["accuracy test %"] == exports[name].manifest.report[f"accuracy/test/{precision}"].value


def test_one_model_is_named_to_ship(compared):
    (ship,) = [note for note in compared.manifest.report.notes if note.startswith(SHIP)]
    assert ship.removeprefix(SHIP) in {"dense-onnx fp32", "small-onnx fp32"}


def test_an_impossible_ratio_fails_and_leaves_nothing(exports, tmp_path):
    settings = tiny.settings_of("bench", max_p50_ratio=1e-6)
    with pytest.raises(GateError, match="p50 ratio"):
        compare("bench", STAGES["bench"].function, settings, exports, RunContext(out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_model_that_was_never_exported_is_named(dense):
    with pytest.raises(ModelFileError, match="holds no exported model"):
        bench({"dense": dense}, tiny.settings_of("bench"))


def row(model, accuracy, ratio, size=1.0):
    return {"model": model, "accuracy val %": accuracy, "p50 ratio": ratio, "size MB": size}


@pytest.mark.parametrize(("ratio", "size", "accuracy", "chosen"), [
    (0.494, 0.15, 89.5, "b int8"),  # as fast, and smaller
    (0.494, 0.30, 91.0, "b int8"),  # as fast and as large, and better
    (0.494, 0.40, 99.0, "a int8"),  # as fast, and larger
    (0.530, 0.15, 99.0, "a int8"),  # slower
])  # fmt: skip
def test_of_models_as_fast_the_smaller_file_ships_then_the_better_one(ratio, size, accuracy, chosen):
    rows = (row("a fp32", 90.0, 1.0), row("a int8", 90.0, 0.493, 0.30), row("b int8", accuracy, ratio, size))
    assert choose(Table(title="", rows=rows), 1.0) == chosen


def test_a_model_without_a_ratio_never_ships():
    rows = (row("a fp32", 90.0, 1.0), row("b fp32", 95.0, None))
    assert choose(Table(title="", rows=rows), 1.0) == "a fp32"


def test_a_file_of_another_batch_is_left_out_of_the_comparison(exports):
    name, small = next(reversed(exports.items()))
    table = summarize(exports, measured_at(exports, {f"{name} fp32": 4}))
    assert table.rows[-1]["model"] == f"{name} fp32"
    assert [table.rows[-1][column] for column in ("p50 ms", "p95 ms", "p50 ratio", "ratio 95 %")] == [None] * 4
    assert table.rows[-1]["accuracy test %"] == small.manifest.report["accuracy/test/fp32"].value
    assert table.rows[0]["p50 ratio"] == 1


def measured_at(exports, batches):
    files = list(model_files(exports))
    comparable = [f for f in files if f not in batches]
    rows = [Measurement(name=f"{what}/{f}", value=1.0) for f in files for what in ("p50", "p95", "size", "compressed")]
    return Report(rows=(*rows, *(Measurement(name=f"ratio/{f}", value=1.0) for f in comparable)))


@pytest.mark.parametrize(("max_drop", "chosen"), [(0.0, "a fp32"), (1.0, "b fp32"), (5.0, "b int8")])
def test_the_fastest_that_is_right_enough_ships(max_drop, chosen):
    rows = (row("a fp32", 90.0, 1.0), row("torch", 99.0, 0.01), row("b fp32", 89.0, 0.5), row("b int8", 86.0, 0.2))
    assert choose(Table(title="", rows=rows), max_drop) == chosen


@pytest.mark.parametrize(("limit", "chosen"), [(None, "b int8"), (5.0, "b fp32"), (10.0, "b int8"), (0.0, "a fp32")])
def test_a_model_that_has_lost_a_class_does_not_ship(limit, chosen):
    rows = tuple(
        {**row(name, 90.0, ratio), CLASS_DROP: drop, "of class": "bee"}
        for name, ratio, drop in (
            ("a fp32", 1.0, 0.0),
            ("torch", 0.01, None),
            ("b fp32", 0.5, 2.0),
            ("b int8", 0.2, 10.0),
        )
    )
    assert choose(Table(title="", rows=rows), 1.0, limit) == chosen


def test_classes_are_compared_with_those_of_the_first_file(exports):
    losses, first = class_losses(exports), class_counts(exports["dense-onnx"])
    assert losses["dense-onnx fp32"] == (0.0, "")
    small = class_counts(exports["small-onnx"])
    drops = first.accuracy("fp32") - small.accuracy("fp32")
    assert losses["small-onnx fp32"][0] == pytest.approx(max(drops.max(), 0))
