"""What is well sealed and makes no sense ends in words, in bounded memory, whoever reads it."""

import json
import random
import resource
import shutil
from dataclasses import fields

import pytest
import torch

from effxfer import adapter_file
from effxfer.adapter_file import AdapterFile
from effxfer.artifact import MANIFEST, Artifact, Manifest, describe, save
from effxfer.documents.documents import AdapterDocument, ManifestDocument, TicketDocument
from effxfer.documents.edit_documents import EDITS
from effxfer.documents.find_mistake import find_mistake
from effxfer.errors import EffxferError, ModelFileError
from effxfer.files import write_directory
from effxfer.net import edits
from effxfer.net.compression.resize import measure_shapes
from effxfer.net.edits import apply_edit, rebuild
from effxfer.net.merge import base_state
from effxfer.pipeline.leaderboard import leaderboard
from effxfer.prune.tickets import file, ticket_report
from effxfer.prune.tickets.file import TicketFile
from effxfer.report import Curve, Measurement, Report, Table
from effxfer.runtime.images.preprocess import Preprocess
from effxfer.signed_safetensors import load
from effxfer.stages.runner.source import read_ticket
from tests.forged import listed, reseal, rewritten

SOURCE = {"source": "effxfer.net.cifar:resnet20", "args": {"width": 4}}
FIT = {"epochs": 3, "optimizer": "adamw", "lr": 0.001, "schedule": "cosine"}
RECIPE = {"stage": "prune lottery", "settings": {"strategy": "full", "options": {}, "fit": FIT}}
ORIGIN = {"key": "k", "data": [{"name": "shapes"}], "reached": {"accuracy/val": 90.0}, "versions": {}}
REPORT = Report(
    rows=(Measurement(name="accuracy/val", value=50.0, unit="%"),), notes=("a note",),
    tables=(Table(title="Leaderboard of the competition", rows=({"strategy": "full", "model": "x", "p50 ms": 1.0},)),),
    curves=(Curve(title="a", name="b", x="c", y="d", points=((0.0, 1.0),)),),
)  # fmt: skip
VALUES = (
    None, True, -1, 0, 10**9, 10**30, -1e308, float("nan"), float("inf"), "", "x", "x" * 20_000, "\ud800", "a.b:c",
    [], {}, [[]], {"a": {}}, [None], ["x", 1], {"kind": "no such"}, [10**6] * 6,
)  # fmt: skip


def net():
    made = rebuild(SOURCE, [], Preprocess(size=16))
    apply_edit(made, "set_head", spec={"kind": "linear"}, features=16, classes=["a", "b"])
    apply_edit(made, "add_bias", layers=["body.stem.0"])
    apply_edit(made, "remove_blocks", names=["body.stage1.2"])
    apply_edit(made, "sparsify", weights=["body.stem.0.weight"])
    shapes = measure_shapes(made)[0]
    resized = {"head.out.bias": shapes["head.out.bias"]}
    apply_edit(made, "resize", shapes=resized, sizes={"body.stem.0": {"out_channels": 4}})
    return made.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model directory with edits of several kinds, a report, and a ticket; do not write into it."""
    made, out = net(), tmp_path_factory.mktemp("sealed") / "made"
    facts = {"key": "k", "stage": "finetune", "settings": {"strategy": "full"}, "parent": "p", "report": REPORT}
    with write_directory(out) as scratch:
        save(scratch, made, **facts, data=({"name": "t", "digest": "d" * 16, "settings": {"source": "x"}},))
    packed = file.pack(made, made.state_dict(), rewind="the start", recipe=RECIPE, origin=ORIGIN)
    listed(out, "ticket.safetensors", packed.content)
    return out


def bare():
    torch.manual_seed(0)
    return rebuild(SOURCE, [], Preprocess(size=16))


@pytest.fixture(scope="module")
def adapter():
    made = bare()
    base = {name: tensor.clone() for name, tensor in base_state(made).items()}
    apply_edit(made, "set_head", spec={"kind": "linear"}, features=16, classes=["a", "b"])
    apply_edit(made, "lora", weights=["body.stage1.0.conv1.weight"], rank=2, alpha=4.0)
    return adapter_file.pack(made, base, strategy="lora", trained=8, recipe={"fit": FIT}, origin=ORIGIN).content


def places(value, path=()):
    """Where something could be changed: every key and element, but for most of long lists."""
    found = [path] if path else []
    if len(path) > 20:
        return found
    inner = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    return [*found, *(place for key, one in inner for place in places(one, (*path, key)))]


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def mutated(document, rng):
    """Change one or two places of a document."""
    made = json.loads(json.dumps(document))
    for _ in range(rng.choice((1, 1, 2))):
        *above, last = rng.choice(places(made))
        holder = made
        for key in above:
            holder = holder[key]
        how = rng.choice(("delete", "value", "value", "value", "more", "deep", "negative"))
        if how == "delete":
            del holder[last]
        elif how == "deep":
            holder[last] = deep(rng.choice((5, 40, 300)))
        elif how == "more" and isinstance(holder[last], dict):
            holder[last][rng.choice(("x", "__class__", "kind", "forward"))] = rng.choice(VALUES)
        elif how == "negative" and isinstance(holder[last], int | float):
            holder[last] = rng.choice((-holder[last], holder[last] * 10**6, holder[last] + 1))
        else:
            holder[last] = rng.choice(VALUES)
    return made


def harmless(*steps):
    """Do steps, and allow no exception but this project's; say whether one came."""
    refused = False
    for step in steps:
        try:
            step()
        except EffxferError:
            refused = True
    return refused


def rounds(seeds, count):
    """Some seeds of few mutations each, and one of many."""
    many = pytest.param(99, 2000, marks=pytest.mark.slow)
    return pytest.mark.parametrize(("seed", "count"), [*((seed, count) for seed in range(seeds)), many])


@pytest.fixture
def memory():
    """At most one GB more than before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_000_000


@rounds(4, 60)
def test_manifests(folder, tmp_path, memory, seed, count):
    rng, refused = random.Random(seed), 0
    good = shutil.copytree(folder, tmp_path / "good")
    one = shutil.copytree(folder, tmp_path / "one")
    original = json.loads((folder / MANIFEST).read_text())
    original.pop("sha256")
    for _ in range(count):
        changed = mutated(original, rng)
        (one / MANIFEST).write_text(json.dumps(changed))
        reseal(one)
        refused += harmless(lambda: Artifact.load(one).net(), lambda: read_ticket(one))
        board = leaderboard([tmp_path])
        assert str(good) in [row["model"] for table in board.tables for row in table.rows]
        str(board)
    assert refused > count / 3


@rounds(2, 80)
def test_tickets(folder, memory, seed, count):
    rng, refused = random.Random(seed), 0
    content = (folder / "ticket.safetensors").read_bytes()
    original = dict(load(content, "it", TicketFile.kind)[1])
    for _ in range(count):
        changed = mutated(original, rng)
        dropped = dict.fromkeys(original.keys() - changed.keys())
        made = rewritten(content, TicketFile.kind, **{**changed, **dropped})

        def whole(made=made):
            found = TicketFile.unpack(made)
            str(ticket_report.describe(found))
            assert found.facts.identity
            found.network()

        refused += harmless(whole)
    assert refused > count / 3


@rounds(2, 60)
def test_adapters(adapter, memory, seed, count):
    rng, refused = random.Random(seed), 0
    original = dict(load(adapter, "it", AdapterFile.kind)[1])
    for _ in range(count):
        made = rewritten(adapter, AdapterFile.kind, **mutated(original, rng))

        def whole(made=made):
            found = AdapterFile.unpack(made)
            str(adapter_file.describe(found))
            assert found.facts.identity
            found.put_on(bare(), "it")

        refused += harmless(whole)
    assert refused > count / 3


def test_what_was_not_changed_is_read(folder, adapter):
    assert Artifact.load(folder).net().classes == ("a", "b")
    assert read_ticket(folder).network().masks()
    found = AdapterFile.unpack(adapter)
    assert found.put_on(bare(), "it").classes == ("a", "b")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"edits": [{"kind": "explode"}]}, "is damaged: field edits.0.kind: no edit 'explode'"),
        ({"edits": [{"kind": ["cut"]}]}, "is damaged: field edits.0.kind: no edit ['cut']"),
        ({"edits": [{"kind": "cut"}]}, "is damaged: field edits.0.gone: field required"),
        ({"edits": [{"kind": "cut", "gone": [], "net": 1}]}, "is damaged: field edits.0.net: extra inputs"),
        ({"edits": [{"kind": "cut", "gone": ["nothing"]}]}, "the body has no layer 'nothing'"),
        ({"edits": [{"kind": "sparsify", "weights": ["a"]}]}, "is damaged: AttributeError"),
        ({"smoothing": float("nan")}, "is damaged: a number in it is not finite"),
        ({"smoothing": True}, "is damaged: field smoothing: input should be a valid number, not True"),
        ({"classes": 3}, "is damaged: field classes: "),
        ({"preprocess": {}}, "is damaged: field preprocess: value error, it has no field 'size'"),
        ({"settings": deep(40)}, "is damaged: it is nested deeper than 32"),
        ({"files": {"x": "y"}}, "is damaged: field files.x: "),
        ({"more": 1}, "is damaged: field more: extra inputs are not permitted"),
        ({"backbone": {"source": "timm:nothing", "args": {}}}, "is damaged: timm has no network 'nothing'"),
    ],
)  # fmt: skip
def test_the_field_is_named(folder, tmp_path, changes, text):
    copy = reseal(shutil.copytree(folder, tmp_path / "copy"), **changes)
    with pytest.raises(ModelFileError) as caught:
        Artifact.load(copy).net()
    assert text in caught.value.problem


@pytest.mark.parametrize(
    "edit",
    [
        {"kind": "resize", "shapes": {"body.stem.0.weight": [10**6, 10**6]}, "sizes": {}},
        {"kind": "set_head", "spec": {"kind": "mlp", "width": 65536}, "features": 2**20, "classes": ["a"]},
        {"kind": "lora", "weights": ["body.stem.0.weight"], "rank": 2**20, "alpha": 1.0},
        {"kind": "prompts", "blocks": ["body.stem"], "count": 2**20, "width": 2**20, "deep": True},
    ],
    ids=lambda edit: edit["kind"],
)
def test_no_file_of_a_megabyte_takes_the_memory(folder, tmp_path, memory, edit):
    copy = shutil.copytree(folder, tmp_path / "copy")
    before = json.loads((copy / MANIFEST).read_text())["edits"]
    reseal(copy, edits=[*before[:1], *([edit] * 40 if edit["kind"] == "lora" else [edit])])
    with pytest.raises(ModelFileError) as caught:
        Artifact.load(copy).net()
    assert caught.value.code in {"E404", "E405"}


@pytest.mark.parametrize("attribute", ["__class__", "_parameters", "forward", "training", "weight"])
def test_only_numbers_of_a_module_are_changed(folder, tmp_path, attribute):
    copy = shutil.copytree(folder, tmp_path / "copy")
    reseal(copy, edits=[{"kind": "resize", "shapes": {}, "sizes": {"body.stem.0": {attribute: 3}}}])
    with pytest.raises(ModelFileError, match="is no number that pruning may change"):
        Artifact.load(copy).net()


def test_the_models_are_those_of_what_is_written():
    def told(model):
        return {field.alias or name for name, field in model.model_fields.items()}

    assert told(ManifestDocument) == {field.name for field in fields(Manifest)}
    assert told(TicketDocument) == {field.name for field in fields(file.Facts)}
    assert told(AdapterDocument) == {field.name for field in fields(adapter_file.Facts)}
    assert EDITS.keys() == edits.EDITS.keys()
    assert describe(net())["edits"]


def test_a_report_may_hold_what_is_no_number(folder):
    raw = json.loads((folder / MANIFEST).read_text())
    raw.pop("sha256")
    raw["report"]["rows"][0]["value"] = float("nan")
    assert find_mistake(ManifestDocument, raw) == ""


@pytest.mark.parametrize(
    "sizes",
    [{"stride": [0, 0]}, {"padding": [3000, 3000]}, {"groups": 0}, {"kernel_size": [3, 3, 3]}, {"dilation": [2, 2]}],
    ids=str,
)
def test_pruning_makes_no_stride_of_nothing_and_no_larger_padding(folder, tmp_path, sizes):
    copy = shutil.copytree(folder, tmp_path / "copy")
    reseal(copy, edits=[{"kind": "resize", "shapes": {}, "sizes": {"body.stage1.0.conv1": sizes}}])
    with pytest.raises(ModelFileError, match=f"an edit makes body.stage1.0.conv1.{next(iter(sizes))}") as caught:
        Artifact.load(copy).net()
    assert caught.value.code == "E404"
