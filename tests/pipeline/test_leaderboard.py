"""What was tried stands side by side: by task, ordered, with the times of the last comparison."""

import os
import shutil
from dataclasses import replace

import pytest

from effxfer.errors import ModelFileError, SettingsError
from effxfer.pipeline.leaderboard import front_flags, leaderboard, task_of
from effxfer.stages import STAGES
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.run import compare
from tests import tiny


@pytest.fixture(scope="module")
def tried(tmp_path_factory, dense, exported):
    """A network, its exported files, and a comparison that timed them."""
    folder = tmp_path_factory.mktemp("tried")
    for number, one in enumerate((dense, exported), 1):
        shutil.copytree(one.path, folder / f"{number}-{one.manifest.stage}")
    context = RunContext(out=folder / "3-bench", device="cpu")
    compare("bench", STAGES["bench"].function, tiny.settings_of("bench"), {"export": exported}, context)
    return folder


def test_networks_and_files_with_their_figures(tried, dense, exported):
    report = leaderboard([tried])
    (table,) = report.tables
    by_name = {row["model"]: row for row in table.rows}
    network, file = by_name[str(tried / "1-finetune")], by_name[f"{tried / '2-export'} fp32"]
    assert network["accuracy val %"] == dense.manifest.report["accuracy/val"].value
    assert network["strategy"] == "full"
    assert file["accuracy test %"] == exported.manifest.report["accuracy/test/fp32"].value
    assert file["size MB"] == (exported.path / "model.onnx").stat().st_size / 1e6
    assert file["p50 ms"] > 0
    assert [row["place"] for row in table.rows] == list(range(1, len(table.rows) + 1))
    assert report.curves[0].name == "nothing beats these"


@pytest.mark.parametrize(
    ("by", "column", "sign"), [("accuracy", "accuracy val %", -1), ("p50", "p50 ms", 1), ("size", "size MB", 1)]
)
def test_is_ordered(tried, by, column, sign):
    values = [row[column] for row in leaderboard([tried], by).tables[0].rows]
    known = [sign * value for value in values if value is not None]
    assert known == sorted(known)
    assert values[len(known) :] == [None] * (len(values) - len(known))


def test_another_task_has_a_table_of_its_own(tried, tmp_path, dense, data):
    tiny.stage("finetune", dense, tmp_path / "other", data.model_copy(update={"max_per_class": 10}))
    tables = leaderboard([tried, tmp_path]).tables
    assert len(tables) == 2
    assert len({table.title for table in tables}) == 2


def test_models_of_several_tables_are_grouped_by_all_of_them(dense):
    def group(*tables):
        data = tuple({"name": name, "digest": digest} for name, digest in tables)
        return task_of(replace(dense, manifest=replace(dense.manifest, data=data)))

    photos, sketches, others = ("photos", "1" * 16), ("sketches", "2" * 16), ("photos", "3" * 16)
    assert group(sketches) == "sketches (22222222)"
    assert group(photos, sketches).startswith("photos, sketches (")
    assert len({group(photos, sketches), group(others, sketches), group(sketches, photos), group(sketches)}) == 4


def test_a_damaged_model_is_named_and_left_out(tried, tmp_path):
    shutil.copytree(tried, tmp_path / "run")
    (tmp_path / "run/1-finetune/weights.safetensors").write_bytes(b"no")
    report = leaderboard([tmp_path])
    assert all("1-finetune" not in str(row["model"]) for row in report.tables[0].rows)
    assert any(note.startswith("left out") and "1-finetune" in note for note in report.notes)


def test_nothing_but_damage_says_so(dense, tmp_path):
    shutil.copytree(dense.path, tmp_path / "run")
    (tmp_path / "run/weights.safetensors").write_bytes(b"no")
    with pytest.raises(ModelFileError, match=r"is whole: .*was changed since it was written") as caught:
        leaderboard([tmp_path])
    assert caught.value.code == "E404"


def test_nothing_there(tmp_path):
    with pytest.raises(SettingsError, match="no model directory"):
        leaderboard([tmp_path])


def test_only_what_another_beats_in_both_is_off_the_front():
    def row(accuracy, p50):
        return {"accuracy val %": accuracy, "p50 ms": p50}

    rows = [row(90, 2.0), row(80, 1.0), row(85, 3.0), row(90, 2.0), row(99, None), row(None, 0.1)]
    assert front_flags(rows) == [True, True, False, True, False, False]


def test_a_folder_of_any_depth_is_searched(dense, tmp_path, monkeypatch):
    shutil.copytree(dense.path, tmp_path / "made")
    (tmp_path / "again").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir("d")  # noqa: PTH102
        os.chdir("d")
    try:
        assert len(leaderboard([tmp_path]).tables[0].rows) == 1
    finally:  # nothing that clears away goes so deep
        for _ in range(1200):
            os.chdir("..")
            os.rmdir("d")  # noqa: PTH106
