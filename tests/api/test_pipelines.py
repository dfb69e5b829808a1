import pytest

import effxfer as ex
from effxfer.errors import SettingsError
from tests import plans


def test_run_does_every_stage_once_and_tells_of_each(folder, tmp_path):
    file, seen = plans.write(tmp_path / "mine.toml", folder), []
    keywords = {"out": tmp_path / "out", "device": "cpu", "on_stage": lambda name, result: seen.append(name)}
    finished = ex.run(file, **keywords)
    assert [name.partition("-")[2] for name in seen] == list(finished.results)
    assert finished.page.is_file()
    assert {row["state"] for row in ex.status(file, out=tmp_path / "out").report.tables[0].rows} == {"done"}
    assert ex.run(file, **keywords).results == finished.results


def test_the_leaderboard_puts_models_in_order_and_writes_a_page(dense, exported, tmp_path):
    board = ex.leaderboard([dense.path, exported.path], by="size", out=tmp_path, command="ours")
    assert [row["model"] for row in board.rows] == [f"{exported.path} fp32", str(dense.path)]
    assert board.facts() == {"page": tmp_path / "leaderboard.html"}
    assert "ours" in board.page.read_text()
    assert ex.leaderboard([dense.path]).page is None
    with pytest.raises(SettingsError, match="did you mean 'size'"):
        ex.leaderboard([dense.path], by="sice")


def test_settings_of_a_stage_are_a_table_or_texts(folder, tmp_path):
    file = plans.write(tmp_path / "mine.toml", folder)
    for settings in ({"dense": {"fit": {"epoch": 3}}}, ["dense.fit.epoch=3"]):
        with pytest.raises(SettingsError, match="did you mean 'epochs'"):
            ex.run(file, settings=settings)


@pytest.mark.parametrize("keywords", [{}, {"pipeline": "demo", "preset": "fast"}, {"preset": "fats"}])
def test_either_a_pipeline_or_a_preset_is_needed(keywords):
    with pytest.raises(SettingsError, match=r"either a pipeline or|did you mean 'fast'"):
        ex.run(**keywords)
