import json
import os
import shutil

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from effxfer.artifact import MANIFEST, SEAL, WEIGHTS, Artifact, key_of, read_manifest, save
from effxfer.errors import ModelFileError
from effxfer.files import write_directory
from tests import tiny
from tests.forged import listed, reseal

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


def rewrite(copy, **changes):
    raw = json.loads((copy / MANIFEST).read_text()) | changes
    (copy / MANIFEST).write_text(json.dumps(raw))


def test_a_manifest_without_a_seal_is_refused(copy):
    raw = json.loads((copy / MANIFEST).read_text())
    raw.pop(SEAL)
    (copy / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(ModelFileError, match="is damaged: it has no seal") as caught:
        Artifact.load(copy)
    assert caught.value.code == "E404"


@pytest.mark.parametrize("seal", [None, "", 0, [], "0" * 64])
def test_no_other_seal_will_do(copy, seal):
    rewrite(copy, **{SEAL: seal})
    with pytest.raises(ModelFileError, match="is damaged"):
        Artifact.load(copy)


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
    reseal(copy, **changes)
    with pytest.raises(ModelFileError, match="damaged"):
        Artifact.load(copy)


def test_weights_that_do_not_fit_are_named(copy):
    raw = json.loads((copy / MANIFEST).read_text())
    reseal(copy, backbone={**raw["backbone"], "args": {"width": 8}})
    with pytest.raises(ModelFileError, match="does not fit") as caught:
        Artifact.load(copy).net()
    assert caught.value.code == "E405"


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x",
        "a/../../x",
        "..",
        ".",
        "",
        "a//b",
        "./a",
        "a/",
        "a\\b",
        "a\nb",
        "a\0b",
        "/".join("abcdefghi"),
    ],
)
def test_a_manifest_lists_files_of_its_own_folder_only(copy, name):
    reseal(copy, files={name: "0" * 64})
    with pytest.raises(ModelFileError, match="which is no file of its own folder") as caught:
        Artifact.load(copy)
    assert caught.value.code == "E404"


def test_folders_in_a_model_directory_are_its_own(copy):
    (copy / "bundle").mkdir()
    listed(copy, "bundle/labels.txt", b"red")
    assert Artifact.load(copy).manifest.files["bundle/labels.txt"]


def test_links_are_refused_wherever_they_lead(copy, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/labels.txt").write_bytes(b"red")
    (copy / "bundle").symlink_to(tmp_path / "elsewhere")
    listed(copy, "bundle/labels.txt", b"red")
    with pytest.raises(ModelFileError, match=r"labels\.txt is a link, but a model directory must contain its files"):
        Artifact.load(copy)
    (copy / "bundle").unlink()
    (copy / WEIGHTS).rename(tmp_path / "weights")
    (copy / WEIGHTS).symlink_to(tmp_path / "weights")
    with pytest.raises(ModelFileError, match="is a link"):
        Artifact.load(copy)


def test_a_manifest_is_no_link(copy, tmp_path):
    (copy / MANIFEST).rename(tmp_path / "kept")
    (copy / MANIFEST).symlink_to(tmp_path / "kept")
    with pytest.raises(ModelFileError, match="is damaged: it is a link"):
        Artifact.load(copy)


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_a_named_pipe_is_not_waited_for(copy, name):
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(ModelFileError, match="a named pipe, no regular file") as caught:
        Artifact.load(copy)
    assert caught.value.code == "E404"


def test_a_manifest_of_a_terabyte_is_not_read(copy):
    os.truncate(copy / MANIFEST, 2**40)
    with pytest.raises(ModelFileError, match="is above the limit of 67 MB"):
        Artifact.load(copy)
