"""Every shipped pipeline parses and says how to run it; the demo goes the whole way."""

from pathlib import Path

import pytest

from effxfer import pipeline
from effxfer.plan import read_plan
from effxfer.stages.run import Where
from effxfer.stages.settings import SHIP

FILES = sorted((Path(__file__).parents[2] / "pipelines").glob("*.toml"))
TRAINED = ("dense", "ticket", "channels")
EXPORTS = ("dense-onnx", "small-onnx")
SHORT = [
    "backbone.pretrained=false",
    "backbone.size=16",
    "channels.round_to=8",
    "data.max_per_class=10",
    *(f"{name}.fit.epochs=1" for name in TRAINED),
    *(f"{name}.options.batch=25" for name in TRAINED),
    "head.trials=4",
    "head.epochs=3",
    "head.finalists=1",
    *(f"{name}.latency_seconds=0.2" for name in EXPORTS),
    *(f"{name}.calibration=16" for name in EXPORTS),
    *(f'{name}.recipes=["u8s8-7bit"]' for name in EXPORTS),
    *(f"{name}.mixed_seconds=0" for name in EXPORTS),
    "bench.max_seconds=0.5",
    "bench.precision=0.5",
    "bench.cold=1",
]


def test_there_are_pipelines():
    assert {"demo", "photos"} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_parses_to_a_plan(file):
    plan = read_plan(file)
    assert plan.name == file.stem
    assert plan.steps


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_strategy_takes_its_options(file, tmp_path):
    pipeline.check_options(read_plan(file), Where(out=tmp_path / "out"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_its_header_names_its_command(file):
    header = "".join(line for line in file.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert file.read_text().startswith("# ")
    assert f"effxfer run {file.stem}" in header or f"effxfer run pipelines/{file.name}" in header


def test_the_demo_goes_the_whole_way_and_a_second_run_does_nothing(tmp_path, monkeypatch):
    plan = read_plan("demo", backbone="effxfer.net.cifar:resnet20", seed=1, changes=SHORT)
    where = Where(out=tmp_path / "demo", device="cpu")
    made = pipeline.run(plan, where)
    assert {row["state"] for row in pipeline.statuses(plan, where)} == {"done"}
    end = pipeline.conclusion(plan, made)
    assert {row["model"].split()[0] for row in end.tables[-1].rows} >= set(EXPORTS)
    assert any(note.startswith(SHIP) for note in end.notes)
    before = {path: path.stat().st_mtime_ns for path in where.out.rglob("*") if not path.name.startswith(".lock")}
    assert [one.manifest.key for one in pipeline.run(plan, where)] == [one.manifest.key for one in made]
    after = {path: path.stat().st_mtime_ns for path in where.out.rglob("*") if not path.name.startswith(".lock")}
    before.pop(where.out, None)
    after.pop(where.out, None)
    assert after == before
