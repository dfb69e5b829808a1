"""Any damage to a file ends in one of this project's errors, or in nothing at all; never in another exception."""

import io
import json
import shutil
from contextlib import suppress
from functools import cache

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from effxfer.artifact import MANIFEST, WEIGHTS, Artifact
from effxfer.data.settings import DataSettings
from effxfer.data.sources.table import read_table
from effxfer.errors import DataError, ModelFileError, SettingsError
from effxfer.net.backbones.checkpoint import read_tables
from effxfer.pipeline.plan import check_plan, read_plan
from effxfer.toml import read_toml
from tests import plans

few = profile(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
damage = st.tuples(
    st.sampled_from(["flip", "cut", "drop", "insert", "zero"]), st.floats(0, 1, exclude_max=True), st.integers(0, 255)
)


def damaged(content: bytes, how: tuple[str, float, int]) -> bytes:
    kind, share, value = how
    place = int(share * len(content))
    return {
        "flip": content[:place] + bytes([content[place] ^ (value or 1)]) + content[place + 1 :],
        "cut": content[:place],
        "drop": content[:place] + content[place + 1 + value :],
        "insert": content[:place] + bytes([value]) * 3 + content[place:],
        "zero": content[:place] + bytes(len(content[place : place + 1 + value])) + content[place + 1 + value :],
    }[kind]


def tried(make):
    """What it makes and None, or None and why the settings do not allow it; any other error is raised."""
    try:
        return make(), None
    except SettingsError as error:
        return None, error


@pytest.fixture(scope="module")
def copy(dense, tmp_path_factory):
    return shutil.copytree(dense.path, tmp_path_factory.mktemp("fuzz") / "copy")


@few
@given(how=damage)
def test_a_damaged_manifest_is_found_or_says_the_same(copy, dense, how):
    content = (dense.path / MANIFEST).read_bytes()
    (copy / MANIFEST).write_bytes(damaged(content, how))
    try:
        found = Artifact.load(copy)
    except ModelFileError:
        return
    assert found.manifest == dense.manifest


@few
@given(how=damage)
def test_damaged_weights_are_found(copy, dense, how):
    shutil.copy(dense.path / MANIFEST, copy / MANIFEST)
    content = (dense.path / WEIGHTS).read_bytes()
    changed = damaged(content, how)
    (copy / WEIGHTS).write_bytes(changed)
    if changed == content:
        assert Artifact.load(copy).manifest == dense.manifest
        return
    with pytest.raises(ModelFileError, match="was changed since it was written"):
        Artifact.load(copy)


@pytest.fixture(scope="module", params=["zip", "legacy", "safetensors"])
def weights(request, tmp_path_factory):
    from safetensors.torch import save_file

    file = tmp_path_factory.mktemp("weights") / ("w.safetensors" if request.param == "safetensors" else "w.pth")
    state = {"a.weight": torch.randn(4, 3), "a.bias": torch.randn(4), "n": torch.tensor(3)}
    if request.param == "safetensors":
        save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=request.param == "zip")
    return file, file.read_bytes()


@few
@given(how=damage)
def test_damaged_weights_of_others_are_read_or_refused(weights, how):
    """They carry no digest, so that a changed number cannot be found; but nothing else may happen."""
    file, content = weights
    file.write_bytes(damaged(content, how))
    try:
        tables = read_tables(file)
    except ModelFileError:
        return
    assert all(isinstance(tensor, torch.Tensor) for table in tables.values() for tensor in table.values())


@few
@given(how=damage)
def test_a_damaged_pipeline_is_a_plan_or_is_explained(tmp_path_factory, how):
    file = tmp_path_factory.mktemp("plan") / "mine.toml"
    file.write_bytes(damaged(plans.TOML.encode(), how))
    plan, error = tried(lambda: read_plan(file))
    assert error.problem if error else plan.steps


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "run", "fit", "x"]), inner),
    max_leaves=4,
)
NAMES = ["data", "backbone", "stage", "name", "run", "from", "models", "tasks", "method", "source", "fit", "epochs"]


@few
@given(table=st.dictionaries(st.sampled_from(NAMES), plain, max_size=4), depth=st.integers(0, 2))
def test_any_table_is_a_plan_or_is_explained(table, depth):
    whole = {"data": {"source": "digits"}, "backbone": {"source": "x"}, "stage": [{"run": "finetune"}]}
    if depth == 0:
        whole |= table
    elif depth == 1:
        whole["stage"][0] |= table
    else:
        whole["stage"] += [table, {"run": "export", **table}]
    plan, error = tried(lambda: check_plan("mine", whole))
    assert error.problem if error else plan.steps


@few
@given(content=st.binary(max_size=60))
def test_any_bytes_are_settings_or_are_explained(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("toml") / "x.toml"
    file.write_bytes(content)
    table, error = tried(lambda: read_toml(file))
    assert error.code in {"E205", "E206"} if error else json.dumps(table, default=str)


TABLE = b'path,label,split\na.jpg,cat,train\n"b,c.jpg","1",val\nd\\e.jpg,1,test\n,,\nz.jpg,dog,train\n'


@few
@given(how=st.lists(damage, min_size=1, max_size=4))
@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_damaged_table_is_read_or_refused(tmp_path_factory, name, how):
    file = tmp_path_factory.getbasetemp() / name
    content = TABLE if name == "t.csv" else parquet_table()
    for one in how:
        content = damaged(content or b"x", one)
    file.write_bytes(content)
    with suppress(DataError):
        read_table(file, DataSettings(source=str(file)))


@cache
def parquet_table():
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    stream = io.BytesIO()
    rows = {"path": ["a.jpg", "b.jpg"] * 9, "label": ["cat", "dog"] * 9, "split": ["train", "val"] * 9}
    parquet.write_table(pa.table(rows), stream)
    return stream.getvalue()
