import json
import shutil

import pytest

from effxfer.artifact import MANIFEST
from effxfer.data.settings import DataSettings
from effxfer.errors import LockedError, ModelFileError, SettingsError
from effxfer.files import sha256
from effxfer.process.folder_lock import lock_folder
from effxfer.report import Measurement, Report
from effxfer.stages import STAGES
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.key import stage_key
from effxfer.stages.runner.run import compare, preview, transform
from effxfer.stages.runner.tasks import data_for
from effxfer.train.settings import METRICS
from tests import tiny

NAME = "prune channels"
SETTINGS = tiny.settings_of(NAME)


class Counted:
    """A stage that changes nothing; counts its calls, and how often its function was asked for."""

    def __init__(self, fault=None):
        self.found = self.calls = 0
        self.fault = fault

    def __call__(self):
        self.found += 1
        return self.stage

    def stage(self, net, tasks, settings, *, device, work):
        self.calls += 1
        work.note({"epoch": 1, "loss": 0.5})
        if self.fault:
            raise self.fault
        return net, Report(rows=(Measurement(name="calls", value=self.calls),))


@pytest.fixture
def find():
    return Counted()


def context(tmp_path, **more):
    return RunContext(out=tmp_path / "out", device="cpu", **more)


def run(find, source, data, tmp_path, settings=SETTINGS, **more):
    return transform(tiny.substitute(NAME, find), settings, source, [data], context(tmp_path, **more))


def state(path):
    return {file.name: sha256(file) for file in path.iterdir()}


def test_an_equal_key_skips_the_work(find, dense, data, tmp_path):
    first = run(find, dense, data, tmp_path)
    before = state(first.path)
    assert run(find, dense, data, tmp_path).manifest == first.manifest
    assert (find.found, find.calls) == (1, 1)
    assert state(first.path) == before


def test_another_key_is_refused_without_force(find, dense, data, tmp_path):
    first = run(find, dense, data, tmp_path)
    before = state(first.path)
    other = tiny.settings_of(NAME, seed=1)
    with pytest.raises(SettingsError, match="made from other settings") as caught:
        run(find, dense, data, tmp_path, other)
    assert caught.value.code == "E211"
    assert "`force`" in caught.value.hint
    assert state(first.path) == before
    assert run(find, dense, data, tmp_path, other, force=True).manifest.key != first.manifest.key
    assert find.calls == 2


def test_every_input_is_part_of_the_key(dense, data, folder, tmp_path):
    here = context(tmp_path)
    keys = [
        stage_key(NAME, SETTINGS, dense, [data], here),
        stage_key("prune lottery", SETTINGS, dense, [data], here),
        stage_key(NAME, tiny.settings_of(NAME, seed=1), dense, [data], here),
        stage_key(NAME, SETTINGS, tiny.BACKBONE, [data], here),
        stage_key(NAME, SETTINGS, tiny.BACKBONE, [tiny.data_of(folder, split_seed=1)], here),
        stage_key(NAME, SETTINGS, dense, [tiny.data_of(folder, max_per_class=5)], here),
        stage_key(NAME, SETTINGS, dense, [data, data.model_copy(update={"name": "again"})], here),
    ]
    assert len(set(keys)) == len(keys)


def test_where_it_runs_is_not_part_of_the_key(dense, data, tmp_path):
    other = RunContext(out=tmp_path / "elsewhere", device="cpu", force=True)
    assert stage_key(NAME, SETTINGS, dense, [data], context(tmp_path)) == stage_key(
        NAME, SETTINGS, dense, [data], other
    )


def test_the_metric_of_a_search_that_was_the_default_is_still_the_default(dense, data, tmp_path):
    keys = [
        stage_key("search", tiny.settings_of("search", metric=metric), dense, [data], context(tmp_path))
        for metric in (None, "accuracy", "macro_f1")
    ]
    assert keys[0] == keys[1] != keys[2]


def test_changed_images_change_the_key(dense, folder, tmp_path):
    copy = tiny.data_of(shutil.copytree(folder, tmp_path / "shapes"))
    before = stage_key(NAME, SETTINGS, dense, [copy], context(tmp_path))
    image = next((tmp_path / "shapes" / "red").glob("*.png"))
    image.write_bytes(next((tmp_path / "shapes" / "blue").glob("*.png")).read_bytes())
    assert stage_key(NAME, SETTINGS, dense, [copy], context(tmp_path)) != before


def test_a_result_that_was_altered_is_not_taken_for_done(find, dense, data, tmp_path):
    first = run(find, dense, data, tmp_path)
    (first.path / METRICS).write_text("{}\n")
    with pytest.raises(ModelFileError, match="was changed"):
        run(find, dense, data, tmp_path)
    assert run(find, dense, data, tmp_path, force=True).manifest.key == first.manifest.key
    assert find.calls == 2


def test_a_failed_stage_leaves_no_result_but_its_work(dense, data, tmp_path):
    find = Counted(fault=RuntimeError("power is out"))
    with pytest.raises(RuntimeError, match="power is out"):
        run(find, dense, data, tmp_path)
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / ".work-out").glob(f"key-*/{METRICS}"))


def test_a_stage_that_failed_before_it_did_anything_leaves_nothing(dense, data, tmp_path):
    def at_once(_net, _tasks, _settings, *, device, work):
        raise RuntimeError("no such thing")

    with pytest.raises(RuntimeError, match="no such thing"):
        transform(tiny.substitute(NAME, lambda: at_once), SETTINGS, dense, [data], context(tmp_path))
    assert not list(tmp_path.glob(".work-*"))


def test_a_refused_stage_leaves_no_folder_that_was_made_for_it(dense, data, tmp_path):
    def refuse(*_args, **_more):
        raise SettingsError("no")

    here = RunContext(out=tmp_path / "runs" / "mine" / "out", device="cpu")
    with pytest.raises(SettingsError):
        transform(tiny.substitute(NAME, lambda: refuse), SETTINGS, dense, [data], here)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_replacement_leaves_the_old_result(find, dense, data, tmp_path):
    before = state(run(find, dense, data, tmp_path).path)
    failing = Counted(fault=RuntimeError("power is out"))
    with pytest.raises(RuntimeError):
        run(failing, dense, data, tmp_path, tiny.settings_of(NAME, seed=1), force=True)
    assert state(tmp_path / "out") == before


def test_work_of_another_key_is_thrown_away(find, dense, data, tmp_path):
    with pytest.raises(RuntimeError):
        run(Counted(fault=RuntimeError()), dense, data, tmp_path)
    run(find, dense, data, tmp_path, tiny.settings_of(NAME, seed=1))
    assert not list(tmp_path.glob(".work-out/key-*"))


@pytest.mark.parametrize("other", [False, True], ids=["its own", "of another key"])
def test_work_of_a_kill_after_the_result_was_written_goes_with_the_next_call(find, dense, data, tmp_path, other):
    key = run(find, dense, data, tmp_path).manifest.key
    left = tmp_path / ".work-out" / f"key-{'other' if other else key}"
    left.mkdir(parents=True)
    (left / "checkpoint.pt").write_bytes(b"x")
    (tmp_path / ".work-out" / ".lock").touch()
    with lock_folder(tmp_path / ".work-out"):
        run(find, dense, data, tmp_path)
        assert left.exists(), "another process works there"
    run(find, dense, data, tmp_path)
    assert (tmp_path / ".work-out").exists() == other
    assert find.calls == 1


@pytest.mark.parametrize("name", ["a" * 250, "a" * 300, "file/out", "nowhere"])
def test_an_impossible_output_is_refused_before_anything_is_read(find, dense, tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to("gone")
    before = sorted(tmp_path.iterdir())
    here, absent = RunContext(out=tmp_path / name, device="cpu"), DataSettings(source=str(tmp_path / "no data"))
    for call in (preview, transform):
        with pytest.raises(SettingsError) as caught:
            call(tiny.substitute(NAME, find), SETTINGS, dense, [absent], here)
        assert caught.value.code == "E211"
    assert (sorted(tmp_path.iterdir()), find.found) == (before, 0)


def test_a_link_to_a_folder_stays_one(find, dense, data, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    made = run(find, dense, data, tmp_path)
    assert made.path == tmp_path / "disk"
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "out" / MANIFEST).is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "out"]


def test_metrics_come_along_with_the_result(find, dense, data, tmp_path):
    made = run(find, dense, data, tmp_path)
    assert [json.loads(line) for line in (made.path / METRICS).read_text().splitlines()] == [{"epoch": 1, "loss": 0.5}]
    assert METRICS in made.manifest.files


@pytest.mark.parametrize("force", [False, True])
def test_foreign_files_are_never_replaced(find, dense, data, tmp_path, force):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(SettingsError, match=r"thesis\.txt, which effxfer did not write"):
        run(find, dense, data, tmp_path, force=force)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"
    assert find.calls == 0


def test_a_file_beside_a_result_is_never_lost(find, dense, data, tmp_path):
    made = run(find, dense, data, tmp_path)
    (made.path / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match=r"notes\.txt"):
        run(find, dense, data, tmp_path, tiny.settings_of(NAME, seed=1), force=True)
    assert (made.path / "notes.txt").read_text() == "mine"


def test_nothing_is_written_into_a_data_set(find, dense, data, folder):
    with pytest.raises(SettingsError, match="inside the data set"):
        transform(
            tiny.substitute(NAME, find), SETTINGS, dense, [data], RunContext(out=folder / "red" / "model", device="cpu")
        )


def test_work_held_by_another_process_is_refused_at_once(find, dense, data, tmp_path):
    with lock_folder(tmp_path / ".work-out"), pytest.raises(LockedError, match="in use by process"):
        run(find, dense, data, tmp_path)
    assert find.calls == 0


def test_a_preview_decodes_and_writes_nothing(dense, data, tmp_path):
    shown = preview(STAGES[NAME], SETTINGS, dense, [data], context(tmp_path))
    assert shown["done"] is False
    assert shown["images"] == [{"train": 36, "val": 12, "test": 12}]
    assert shown["settings"] == SETTINGS.plain()
    assert list(tmp_path.iterdir()) == []


def test_a_single_stage_takes_the_data_of_its_model(dense, data):
    assert data_for(dense, {}) == [data]
    changed = data_for(dense, {"max_per_class": 5})
    assert changed == [data.model_copy(update={"max_per_class": 5})]
    assert data_for(dense, {"source": "digits"}) == [DataSettings(source="digits")]


def test_a_backbone_alone_has_no_data():
    with pytest.raises(SettingsError, match="no data given"):
        data_for(tiny.BACKBONE, {})


def test_an_out_of_dot_means_the_present_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert RunContext(out=tmp_path.__class__(".")).work_dir == tmp_path.parent / f".work-{tmp_path.name}"


def test_a_comparison_is_made_once_for_the_same_models(dense, tmp_path):
    calls = []

    def measure(made, settings):
        calls.append(list(made))
        return Report(notes=("compared",))

    settings = tiny.settings_of("bench")
    here = context(tmp_path)
    first = compare("bench", lambda: measure, settings, {"a": dense}, here)
    assert compare("bench", lambda: measure, settings, {"a": dense}, here).manifest == first.manifest
    assert calls == [["a"]]
    assert {file.name for file in first.path.iterdir()} == {MANIFEST}
    with pytest.raises(ModelFileError, match="holds no network"):
        first.net()
    with pytest.raises(SettingsError, match="result of bench made from other"):
        compare("bench", lambda: measure, settings, {"another name": dense}, here)


def test_a_rate_that_is_left_open_is_the_one_of_images_in_key_and_settings(dense, data, tmp_path):
    """Results that were made when 0.001 was the default stay valid, and the manifest says the number."""
    open_rate, given = (tiny.settings_of(NAME, fit={**tiny.FIT, "lr": lr}) for lr in (None, 1e-3))
    keys = [stage_key(NAME, settings, dense, [data], context(tmp_path)) for settings in (open_rate, given)]
    assert keys[0] == keys[1]
    planned = preview(STAGES[NAME], open_rate, dense, [data], context(tmp_path))
    assert planned["settings"]["fit"]["lr"] == 1e-3
