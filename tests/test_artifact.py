import json
import shutil

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from effxfer import artifact
from effxfer.artifact import (
    MANIFEST,
    SEAL,
    WEIGHTS,
    Artifact,
    bundled_models,
    find,
    identity,
    key_of,
    open_model,
    read_manifest,
    save,
)
from effxfer.errors import ModelFileError
from effxfer.files import write_directory
from effxfer.net.settings import BackboneSettings
from tests import tiny

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
tables = st.dictionaries(st.text(max_size=5), plain, max_size=4)
inputs = st.fixed_dictionaries(
    {
        "stage": st.text(max_size=5),
        "settings": tables,
        "data": st.lists(st.text(max_size=5), max_size=3),
        "parent": plain,
    }
)


def written(value):
    return json.dumps(value, sort_keys=True)


few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@few
@given(inputs, inputs)
def test_keys_are_equal_where_all_inputs_are(one, other):
    assert (key_of(**one) == key_of(**other)) == (written(one) == written(other))


@few
@given(inputs, st.sampled_from(["stage", "settings", "data", "parent"]), inputs)
def test_any_input_changes_the_key(one, which, other):
    assume(written(one[which]) != written(other[which]))
    assert key_of(**one) != key_of(**{**one, which: other[which]})


@few
@given(inputs)
def test_the_order_of_settings_does_not_change_the_key(one):
    turned = {**one, "settings": dict(reversed(one["settings"].items()))}
    assert key_of(**one) == key_of(**turned)


@pytest.fixture
def copy(dense, tmp_path):
    return shutil.copytree(dense.path, tmp_path / "copy")


def pixels():
    return torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_outputs_survive_saving_and_loading_bit_for_bit(dense, tmp_path):
    net = dense.net()
    with write_directory(tmp_path / "again") as scratch:
        facts = {
            name: getattr(dense.manifest, name) for name in ("key", "stage", "settings", "parent", "data", "report")
        }
        save(scratch, net, **facts)
    again = Artifact.load(tmp_path / "again")
    with torch.inference_mode():
        assert torch.equal(again.net()(pixels()), net(pixels()))
    assert again.manifest.report.rows == dense.manifest.report.rows
    assert again.manifest.classes == tiny.CLASSES
    assert again.manifest.edits == dense.manifest.edits


def test_a_manifest_says_how_it_came_to_be(dense, data):
    manifest = dense.manifest
    assert manifest.stage == "finetune"
    assert manifest.settings["fit"]["epochs"] == tiny.FIT["epochs"]
    assert manifest.settings["fit"]["optimizer"] == "adamw"
    assert manifest.data[0]["settings"] == data.plain()
    assert {"effxfer", "torch", "onnxruntime"} <= manifest.versions.keys()
    assert WEIGHTS in manifest.files


@pytest.mark.parametrize("place", [0.1, 0.5, 0.999])
def test_a_flipped_bit_in_the_weights_is_found(copy, place):
    file = copy / WEIGHTS
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelFileError, match="was changed since it was written") as caught:
        Artifact.load(copy)
    assert caught.value.code == "E404"


def test_a_missing_file_is_found(copy):
    (copy / WEIGHTS).unlink()
    with pytest.raises(ModelFileError, match="absent"):
        Artifact.load(copy)


def test_a_directory_without_manifest_is_none(copy):
    (copy / MANIFEST).unlink()
    with pytest.raises(ModelFileError, match=r"no manifest\.json"):
        Artifact.load(copy)


def rewrite(copy, seal=True, **changes):
    raw = json.loads((copy / MANIFEST).read_text()) | changes
    if not seal:
        raw.pop(SEAL)
    (copy / MANIFEST).write_text(json.dumps(raw))


def test_another_schema_is_refused_by_its_number(copy):
    rewrite(copy, schema=99)
    with pytest.raises(ModelFileError, match="schema 99"):
        Artifact.load(copy)


def test_an_edited_manifest_is_found(copy):
    rewrite(copy, classes=["red", "green", "blue"])
    with pytest.raises(ModelFileError, match="damaged") as caught:
        Artifact.load(copy)
    assert caught.value.code == "E404"


def test_a_manifest_laid_out_anew_is_the_same(copy, dense):
    raw = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps(raw, sort_keys=True))
    assert Artifact.load(copy).manifest == dense.manifest


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "{", '{"schema": 1}', "[" * 5000])
def test_a_damaged_manifest_is_named(copy, text):
    (copy / MANIFEST).write_text(text)
    with pytest.raises(ModelFileError, match="damaged"):
        read_manifest(copy)


@pytest.mark.parametrize("changes", [{"files": []}, {"report": {}}, {"classes": 3}])
def test_a_manifest_of_the_wrong_shape_is_named(copy, changes):
    rewrite(copy, seal=False, **changes)
    with pytest.raises(ModelFileError, match="damaged"):
        Artifact.load(copy)


def test_weights_that_do_not_fit_are_named(copy):
    raw = json.loads((copy / MANIFEST).read_text())
    rewrite(copy, seal=False, backbone={**raw["backbone"], "args": {"width": 8}})
    with pytest.raises(ModelFileError, match="does not fit") as caught:
        Artifact.load(copy).net()
    assert caught.value.code == "E405"


def test_find_tells_directories_from_libraries(dense):
    assert find("timm:resnet18") is None
    assert find(str(dense.path)).manifest == dense.manifest


def test_a_bundled_model_is_found_by_name_or_suggested(dense, tmp_path, monkeypatch):
    shutil.copytree(dense.path, tmp_path / "models" / "colours")
    monkeypatch.setattr(artifact, "bundled", lambda kind: tmp_path / kind)
    assert bundled_models() == ["colours"]
    assert find("colours").manifest == dense.manifest
    with pytest.raises(ModelFileError, match="did you mean 'colours'"):
        find("colors")


def test_a_model_can_be_a_backbone(dense):
    net, notes = open_model(BackboneSettings(source=str(dense.path)))
    with torch.inference_mode():
        assert torch.equal(net(pixels()), dense.net()(pixels()))
    assert "finetune" in notes[0]


def test_a_model_moved_elsewhere_is_the_same_backbone(dense, copy):
    here, there = (identity(BackboneSettings(source=str(path))) for path in (dense.path, copy))
    assert here == there
    assert here != identity(BackboneSettings(source=str(copy), size=20))
