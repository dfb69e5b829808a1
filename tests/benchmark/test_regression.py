import json
import os
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effxfer.artifact import MANIFEST, save
from effxfer.benchmark.regression import (
    compare_with_earlier,
    enforce_regression,
    is_regression,
    model_names,
    parse_share,
    read_earlier,
    relative_change,
)
from effxfer.benchmark.report import MACHINE
from effxfer.errors import GateError, ModelFileError, SettingsError
from effxfer.files import write_directory
from effxfer.report import Measurement, Report, Table
from effxfer.runtime.images.preprocess import Preprocess

SETTINGS = {"threads": 1, "batch": 1}
MODELS = {"dense": (1.0, 0.0), "small": (0.5, 0.01)}


def bench(cpu="A", load="0.1", rounds=5, noise=1.0, **models):
    rows = [Measurement(name="noise", value=noise, n=rounds)]
    for name, (ratio, spread) in models.items():
        rows.append(Measurement(name=f"ratio/{name}", value=ratio, low=ratio - spread, high=ratio + spread, n=rounds))
        rows.append(Measurement(name=f"size/{name}", value=2.0, unit="MB"))
    rows.append(Measurement(name="ratio/torch eager dense", value=5.0))
    facts = ({"fact": "cpu", "found": cpu}, {"fact": "load", "found": load})
    return Report(rows=tuple(rows), tables=(Table(title=MACHINE, rows=facts),))


@pytest.fixture
def kept(tmp_path):
    def write(report=None, settings=SETTINGS, name="old.json"):
        file = tmp_path / name
        raw = {"settings": settings, "report": (report or bench(**MODELS)).to_json(), "command": "effxfer bench"}
        file.write_text(json.dumps(raw))
        return file

    return write


@pytest.mark.parametrize(
    ("ratio", "spread", "failed"),
    [(0.5, 0.01, False), (0.52, 0.001, False), (0.6, 0.01, True), (0.6, 0.2, False), (0.4, 0.01, False)],
    ids=["equal", "within the limit", "slower", "slower within its interval", "faster"],
)
def test_only_what_is_beyond_limit_and_interval_regressed(kept, ratio, spread, failed):
    report, found = compare_with_earlier(
        read_earlier(kept()), bench(dense=(1.0, 0), small=(ratio, spread)), SETTINGS, 0.05
    )
    assert bool(found) == failed
    assert report["change/small"].value == pytest.approx(ratio / 0.5 - 1)
    assert [row["model"] for row in report.tables[0].rows] == ["small"]


def test_a_larger_file_regressed(kept):
    old, new = read_earlier(kept()), bench(**MODELS)
    grown = tuple(replace(row, value=2.2) if row.name == "size/small" else row for row in new.rows)
    _, found = compare_with_earlier(old, replace(new, rows=grown), SETTINGS, 0.05)
    assert found == ["small: the file grew from 2 to 2.2 MB, allowed 5 %"]
    assert compare_with_earlier(old, replace(new, rows=grown), SETTINGS, 0.11)[1] == []


def with_accuracy(report, **models):
    rows = tuple({"model": name, "accuracy val %": value} for name, value in models.items())
    return replace(report, tables=(*report.tables, Table(title="Models", rows=rows)))


@pytest.mark.parametrize(("now", "failed"), [(91.0, False), (89.6, False), (89.4, True)])
def test_accuracy_that_fell_by_more_than_max_drop_regressed(kept, now, failed):
    old = read_earlier(kept(with_accuracy(bench(**MODELS), dense=92.0, small=90.5)))
    new = with_accuracy(bench(**MODELS), dense=92.0, small=now)
    report, found = compare_with_earlier(old, new, {**SETTINGS, "max_drop": 1.0}, 0.05)
    assert bool(found) == failed
    assert report.tables[0].rows[0]["accuracy val % now"] == now


def test_a_bench_of_bare_files_knows_no_accuracy(kept):
    old = read_earlier(kept())
    report, found = compare_with_earlier(
        old, with_accuracy(bench(**MODELS), small=10.0), {**SETTINGS, "max_drop": 0.0}, 0.05
    )
    assert found == []
    assert "accuracy val % now" not in report.tables[0].rows[0]


def test_a_growth_within_the_noise_of_both_runs_is_no_regression(kept):
    old = read_earlier(kept(bench(noise=0.94, **MODELS)))
    slower = {"dense": (1.0, 0), "small": (0.56, 0.0)}
    assert compare_with_earlier(old, bench(noise=1.0, **slower), SETTINGS, 0.05)[1]
    assert not compare_with_earlier(old, bench(noise=1.05, **slower), SETTINGS, 0.05)[1]


def test_of_a_few_rounds_nothing_is_known(kept):
    old = read_earlier(kept(bench(rounds=1, **MODELS)))
    report, found = compare_with_earlier(old, bench(dense=(1.0, 0), small=(0.9, 0.0)), SETTINGS, 0.05)
    assert found == []
    assert any("1 rounds are too few" in note for note in report.notes)


def test_everything_that_regressed_is_in_the_error(kept):
    old = read_earlier(kept(bench(dense=(1.0, 0), a=(0.5, 0), b=(0.2, 0), c=(0.3, 0))))
    _, found = compare_with_earlier(old, bench(dense=(1.0, 0), a=(0.6, 0), b=(0.3, 0), c=(0.3, 0)), SETTINGS, 0.05)
    with pytest.raises(GateError) as caught:
        enforce_regression(found)
    assert "a: p50 ratio grew by 20.0 % [+20.0, +20.0], allowed 5 %" in caught.value.problem
    assert "b: p50 ratio grew by 50.0 %" in caught.value.problem
    assert "c:" not in caught.value.problem
    enforce_regression([])


def test_another_machine_is_told_and_its_load_is_not(kept):
    old = read_earlier(kept())
    other, _ = compare_with_earlier(old, bench(cpu="B", **MODELS), SETTINGS, 0.05)
    same, _ = compare_with_earlier(old, bench(load="3.0", **MODELS), SETTINGS, 0.05)
    assert any("other machine: cpu A then, B now" in note for note in other.notes)
    assert same.notes == ()


def test_models_of_one_bench_only_are_told(kept):
    report, found = compare_with_earlier(read_earlier(kept()), bench(**MODELS, new=(9.0, 0)), SETTINGS, 0.05)
    assert found == []
    assert any(note.endswith("not compared: new") for note in report.notes)


@pytest.mark.parametrize(
    ("models", "settings", "match"),
    [
        (MODELS, {"threads": 2, "batch": 1}, "threads 1, this bench with 2"),
        (MODELS, {"threads": 1, "batch": 8}, "batch 1, this bench with 8"),
        ({"other": (1.0, 0), "small": (0.5, 0)}, SETTINGS, "refer to 'dense', these to 'other'"),
        ({"dense": (1.0, 0)}, SETTINGS, "no model in common"),
    ],
)
def test_what_cannot_be_compared_is_refused(kept, models, settings, match):
    with pytest.raises(SettingsError, match=match):
        compare_with_earlier(read_earlier(kept()), bench(**models), settings, 0.05)


def test_what_ran_is_compared_not_what_was_asked_for(kept):
    ran = [
        Report(rows=(Measurement(name="threads", value=n), Measurement(name="batch/dense", value=4))) for n in (2, 8)
    ]
    asked = {"threads": 0, "batch": 1}
    old = read_earlier(kept(bench(**MODELS) + ran[0], settings=asked))
    with pytest.raises(SettingsError, match="with threads 2, this bench with 8") as caught:
        compare_with_earlier(old, bench(**MODELS) + ran[1], asked, 0.05)
    assert caught.value.hint == "measure both with --threads 2"
    compare_with_earlier(old, bench(**MODELS) + ran[0], {"threads": 2, "batch": 4}, 0.05)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"settings": {}, "report": {"rows": [], "notes": [], "tables": [], "curves": []}}', "\0"]
)
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SettingsError, match="not an earlier bench"):
        read_earlier(tmp_path / "x.json")
    with pytest.raises(SettingsError, match="no earlier bench"):
        read_earlier(tmp_path / "absent.json")


def test_figures_that_are_no_numbers_are_refused(kept):
    file = kept()
    file.write_text(file.read_text().replace('"value": 0.5', '"value": "fast"'))
    with pytest.raises(SettingsError, match="not an earlier bench"):
        read_earlier(file)


def test_eager_torch_is_no_model_of_a_file():
    assert model_names(bench(**MODELS)) == ["dense", "small"]


@pytest.mark.parametrize("text", ["5", "x", "-1%", "100%", "", "nan"])
def test_a_limit_is_a_share(text):
    with pytest.raises(SettingsError, match="share such as"):
        parse_share(text)


ratios = st.tuples(st.floats(0.01, 10), st.floats(0.0, 0.9))


@given(ratios, ratios, st.floats(0, 0.99))
def test_the_interval_holds_the_change_and_a_bench_never_regresses_against_itself(one, two, limit):
    old, new = (Measurement(name="", value=v, low=v * (1 - s), high=v * (1 + s)) for v, s in (one, two))
    found = relative_change(old, new, "a")
    assert found.low <= found.value + 1e-12
    assert found.value <= found.high + 1e-12
    assert not is_regression(relative_change(old, old, "a"), limit)


def test_a_directory_is_a_bench_that_nobody_changed(tmp_path):
    folder = tmp_path / "bench"
    facts = {"backbone": {"source": "effxfer.net.cifar:resnet20", "args": {}}, "edits": [], "classes": ("a",)}
    facts |= {"preprocess": Preprocess(size=16).to_json(), "data": (), "key": "k", "stage": "bench", "parent": ["k"]}
    with write_directory(folder) as scratch:
        save(scratch, None, **facts, settings=SETTINGS, report=bench(**MODELS))
    assert model_names(read_earlier(folder).report) == ["dense", "small"]
    changed = json.loads((folder / MANIFEST).read_text())
    changed["report"]["rows"][1]["value"] = 2.0
    (folder / MANIFEST).write_text(json.dumps(changed))
    with pytest.raises(ModelFileError, match="it was changed since it was written") as caught:
        read_earlier(folder)
    assert caught.value.code == "E404"


def test_a_pipe_is_no_earlier_bench(tmp_path):
    os.mkfifo(tmp_path / "old.json")
    with pytest.raises(SettingsError, match="is not an earlier bench"):
        read_earlier(tmp_path / "old.json")
