import json
import shutil

import pytest

from effxfer.artifact import MANIFEST, Artifact
from effxfer.data.history import SPLITS_FILE
from effxfer.data.settings import DataSettings
from effxfer.net.settings import BackboneSettings
from effxfer.stages.data.split_history import history_of, places_of, restore_places
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.key import stage_key
from effxfer.stages.runner.tasks import data_for
from tests import tiny
from tests.data.text_files import texts, write_lines

NAME = "prune compact"
SETTINGS = tiny.settings_of(NAME)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("here")
    data = tiny.data_of(tiny.write_images(place / "shapes", per_class=8))
    fit = {**tiny.FIT, "epochs": 1}
    return tiny.finetune(place / "dense", data, fit=fit), data


def grown(place):
    for name in tiny.CLASSES:
        for file in sorted((place / name).glob("*.png")):
            (place / name / f"new-{file.name}").write_bytes(file.read_bytes() + b"more")


def held_out(artifact):
    records = json.loads((artifact.path / SPLITS_FILE).read_text())["records"]
    return [{one[:16] for one in record["images"]["val"] + record["images"]["test"]} for record in records]


def test_no_later_stage_holds_out_what_was_trained_on(made, tmp_path):
    dense, data = made
    (before,) = held_out(dense)
    trained = {one for one, split in history_of(dense, SETTINGS).splits.items() if split == "train"}
    copy = tiny.data_of(shutil.copytree(data.source, tmp_path / "shapes"))
    grown(tmp_path / "shapes")
    later = tiny.stage(NAME, dense, tmp_path / "out", copy)
    now, *_ = held_out(later)
    assert before <= now
    assert not now & trained
    assert any("12 images new, 0 gone, 0 changed" in note for note in later.manifest.report.notes)
    again = tiny.stage(NAME, later, tmp_path / "again", copy)
    assert held_out(again)[0] == now, "and so it goes on"


def test_a_model_directory_as_backbone_or_teacher_is_known_too(made):
    dense, _ = made
    named = BackboneSettings(source=str(dense.path))
    taught = tiny.settings_of("finetune", teacher={"source": str(dense.path), "logits": 0.5})
    fresh = BackboneSettings(source="timm:resnet10t")
    known = history_of(dense, SETTINGS)
    assert known == history_of(named, SETTINGS) == history_of(fresh, taught)
    assert history_of(fresh, SETTINGS).records == ()


def test_data_are_found_again_from_elsewhere(made, tmp_path, monkeypatch):
    dense, data = made
    copy = shutil.copytree(data.source, tmp_path / "one" / "shapes")
    monkeypatch.chdir(tmp_path / "one")
    first = tiny.stage(NAME, dense, tmp_path / "out", tiny.data_of("shapes"))
    assert data_for(first, {})[0].source == "shapes"
    tiny.write_images(tmp_path / "two" / "shapes", per_class=4, seed=7)
    monkeypatch.chdir(tmp_path / "two")
    (found,) = data_for(first, {})
    assert found.source == str(copy)
    assert data_for(first, {"source": "shapes"})[0].source == "shapes", "what is given is taken"
    here = RunContext(out=tmp_path / "x", device="cpu")
    elsewhere = stage_key(NAME, SETTINGS, first, [found], here)
    copy.rename(tmp_path / "two" / "moved")
    moved = tiny.data_of(tmp_path / "two" / "moved", name="shapes")
    assert stage_key(NAME, SETTINGS, first, [moved], here) == elsewhere, "a place is part of no key"
    assert data_for(first, {})[0].source == "shapes", "what is gone is looked for where it was said to be"


def test_results_of_before_are_read(made, tmp_path):
    """They have neither splits nor places."""
    dense, data = made
    old = shutil.copytree(dense.path, tmp_path / "old")
    (old / SPLITS_FILE).unlink()
    manifest = json.loads((old / MANIFEST).read_text())
    manifest["files"].pop(SPLITS_FILE)
    for one in manifest["data"]:
        one.pop("places")
    manifest.pop("sha256")
    from effxfer.signed_safetensors import seal

    (old / MANIFEST).write_text(json.dumps({**manifest, "sha256": seal(manifest)}))
    there = Artifact.load(old)
    assert data_for(there, {}) == [data]
    assert not any("W340" in n for n in tiny.stage(NAME, there, tmp_path / "a", data).manifest.report.notes)
    copy = tiny.data_of(shutil.copytree(data.source, tmp_path / "shapes"))
    grown(tmp_path / "shapes")
    notes = tiny.stage(NAME, there, tmp_path / "b", copy).manifest.report.notes
    assert any("does not say by which images" in note for note in notes)


def test_files_of_a_pattern_are_found_from_elsewhere(tmp_path, monkeypatch):
    for name in ("train", "test"):
        write_lines(tmp_path / f"sst2.{name}", texts(2))
    monkeypatch.chdir(tmp_path)
    settings = DataSettings(source="sst2.*")
    places = places_of(settings)
    assert places == {"source": str(tmp_path / "sst2.*")}
    monkeypatch.chdir(tmp_path.parent)
    assert restore_places(settings.plain(), places)["source"] == str(tmp_path / "sst2.*")
    assert places_of(settings) == {}
