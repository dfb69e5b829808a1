"""What every stage promises; a new one needs a line in `tiny.QUICK`."""

import pytest
import torch

from effxfer import adapter_file
from effxfer.artifact import Artifact
from effxfer.errors import DataError, SettingsError
from effxfer.net.edits import apply_edit
from effxfer.net.merge import base_state
from effxfer.prune.tickets.file import pack
from effxfer.prune.weights.mask import Mask
from effxfer.settings import Settings, build
from effxfer.stages import STAGES, stage_of
from effxfer.stages.runner.context import RunContext
from effxfer.stages.runner.run import compare
from effxfer.stages.runner.source import AdapterOnBase
from tests import tiny

# They refuse images or choose settings by the kind of examples: `tests/stages/train/test_pretrain.py`,
# `test_pretrain_images.py` and `tests/stages/prune/test_vocabulary.py` have what is promised here.
OF_TEXTS = {"pretrain", "prune vocabulary"}


def run(name, out, dense, exported, data, **changes):
    if STAGES[name].kind == "comparison":
        context = RunContext(out=out, device="cpu")
        return compare(name, STAGES[name].function, tiny.settings_of(name, **changes), {"only": exported}, context)
    source = {"ticket": ticket_of, "adapter": adapted}.get(STAGES[name].kind, lambda given: given)(dense)
    return tiny.stage(name, source, out, data, **changes)


def ticket_of(dense):
    """A ticket of a network that a stage made."""
    net = dense.net()
    mask = Mask.full(net)
    Mask({name: shuffled(keep) for name, keep in mask.keep.items()}).store_(net)
    recipe = {"stage": "prune lottery", "settings": tiny.settings_of("prune lottery").plain()}
    return pack(net, dense.net().state_dict(), rewind="", recipe=recipe, origin={})


def adapted(dense):
    """A network that a stage made, and an adapter for its classes."""
    net = dense.net()
    base = {name: tensor.clone() for name, tensor in base_state(net).items()}
    apply_edit(net, "ssf", layers=["body.stem.1"])
    fit = {"epochs": 1, "optimizer": "adamw", "lr": 0.1, "schedule": "cosine"}
    return AdapterOnBase(dense, adapter_file.pack(net, base, strategy="ssf", trained=8, recipe={"fit": fit}, origin={}))


def shuffled(keep):
    return torch.arange(keep.numel()).view(keep.shape) % 3 == 0


def test_the_table_covers_all():
    assert tiny.QUICK.keys() == STAGES.keys()


@pytest.mark.parametrize("name", sorted(STAGES))
def test_its_settings_are_checked_and_told(name):
    cls = STAGES[name].settings
    with pytest.raises(SettingsError, match="no_such_setting"):
        build(cls, {"no_such_setting": 1}, name)
    assert cls.__doc__
    documented = "\n".join(base.__doc__ or "" for base in cls.__mro__ if issubclass(base, Settings))
    assert [field for field in cls.model_fields if f" {field}: " not in documented] == []


@pytest.mark.parametrize("name", sorted(STAGES))
def test_a_pipeline_can_name_it(name):
    run, _, method = name.partition(" ")
    assert stage_of({"run": run, "method": method} if method else {"run": run}) == name


@pytest.mark.parametrize("name", sorted(STAGES.keys() - OF_TEXTS))
def test_reads_a_model_and_leaves_a_whole_one(name, tmp_path, dense, exported, data):
    before = dict(dense.manifest.files)
    made = run(name, tmp_path / "out", dense, exported, data)
    assert made.manifest.stage == name
    assert made.manifest.settings == tiny.settings_of(name).plain()
    assert made.manifest.report.rows
    assert made.manifest.classes == tiny.CLASSES
    assert Artifact.load(made.path).manifest == made.manifest
    assert not list(tmp_path.glob(".work-out/key-*")), "unfinished work is gone"
    assert Artifact.load(dense.path).manifest.files == before, "what it read is as it was"
    if STAGES[name].kind != "comparison":
        assert made.net().classes == tiny.CLASSES
    assert run(name, tmp_path / "out", dense, exported, data).manifest == made.manifest


@pytest.fixture(scope="session")
def few(tmp_path_factory):
    """Two images of each class, none of them known to `dense`: one to train on, one to validate on, none to test."""
    return tiny.data_of(tiny.write_images(tmp_path_factory.mktemp("few") / "shapes", per_class=2, seed=7))


@pytest.mark.parametrize("name", sorted(STAGES.keys() - {"bench", "search", "transfer_report"} - OF_TEXTS))
def test_two_images_of_each_class_are_enough(name, tmp_path, dense, exported, few):
    report = run(name, tmp_path / "out", dense, exported, few).manifest.report
    assert "W313 no test images: accuracy is reported on the validation split alone" in report.notes
    assert not [row.name for row in report.rows if row.name.split("/")[1:2] == ["test"]]


def test_a_search_says_how_many_images_it_needs(tmp_path, dense, exported, few):
    with pytest.raises(DataError, match=r"one training image of each class: .* at least one class needs two") as caught:
        run("search", tmp_path / "out", dense, exported, few)
    assert caught.value.code == "E313"
