"""What every strategy promises; a new one needs a line in `OPTIONS`."""

from dataclasses import replace
from functools import cache
from math import log

import pytest
import torch

from effxfer.artifact import Artifact
from effxfer.data.settings import DataSettings
from effxfer.data.target import attach_target
from effxfer.net.edits import body_edits
from effxfer.net.merge import adapters
from effxfer.net.net import Net
from effxfer.net.settings import ENCODER, BackboneSettings
from effxfer.net.taps import example_input
from effxfer.settings import build
from effxfer.stages.settings.common import ADAPTER
from effxfer.stages.train.head import new_head
from effxfer.train.state import Work
from effxfer.transfer import STRATEGIES
from effxfer.transfer.base import Strategy
from tests import tiny
from tests.data.text_files import texts, write_lines
from tests.transfer import text_tasks
from tests.transfer.domains import scrambled
from tests.transfer.tasks import PREPROCESS, adapt, body, task, two_tasks

PLAIN = {"batch": 8, "augment": {"crop": "none", "flip": False}}
OPTIONS = {
    "adabn": PLAIN,
    "ale": {"batch": 8},
    "anil": {**PLAIN, "batch": 2, "way": 2, "query": 3, "episodes": 48},
    "auto": {**PLAIN, "few": 5},
    "bi_tuning": {**PLAIN, "weight": 0.1},
    "bitfit": PLAIN,
    "bss": PLAIN,
    "cdan": {**PLAIN, "width": 16, "weight": 0.1},
    "coral": PLAIN,
    "dan": {**PLAIN, "weight": 0.3},
    "dann": {**PLAIN, "width": 16},
    "dap": {},
    "delta": {**PLAIN, "alpha": 0.1},
    "der": PLAIN,
    "devise": {"batch": 8},
    "eszsl": {},
    "ewc": {**PLAIN, "samples": 8},
    "fixmatch": {**PLAIN, "ratio": 1, "threshold": 0.6},
    "freeze": PLAIN,
    "full": PLAIN,
    "gdumb": PLAIN,
    "houlsby": PLAIN,
    "ia3": PLAIN,
    "iap": {},
    "icarl": PLAIN,
    "importance": {**PLAIN, "bound": 2.0},
    "l2_sp": {**PLAIN, "alpha": 0.001},
    "lora": PLAIN,
    "lp_ft": PLAIN,
    "lwf": PLAIN,
    "maml": {**PLAIN, "batch": 2, "way": 2, "query": 3, "episodes": 48, "first_order": True},
    "matching": {**PLAIN, "batch": 2, "way": 2, "query": 3, "episodes": 48},
    "mcc": {**PLAIN, "weight": 0.1},
    "multi_task": {**PLAIN, "controls": "none"},
    "nearest_mean": {"batch": 8},
    "parallel_adapter": PLAIN,
    "probe": {"batch": 8},
    "prompt": {"batch": 8, "pattern": "{text} . it was [MASK] .", "words": {"bad": "cat", "good": "mat"}},
    "prompts": {**PLAIN, "tokens": 4},
    "prototypes": {**PLAIN, "batch": 2, "way": 2, "query": 3, "episodes": 48},
    "relation": {**PLAIN, "batch": 2, "way": 2, "query": 3, "episodes": 48},
    "replay": PLAIN,
    "reptile": {**PLAIN, "batch": 2, "way": 2, "query": 3, "episodes": 48, "steps": 2},
    "sae": {},
    "self_training": {**PLAIN, "rounds": 3},
    "setfit": {"batch": 8, "pairs": 2},
    "si": PLAIN,
    "simpleshot": PLAIN,
    "ssf": PLAIN,
    "tent": PLAIN,
    "unfreeze": PLAIN,
}
BRIEF, FAST = {"epochs": 4, "lr": 0.01}, {"epochs": 4, "lr": 0.03}
REST = {"max_per_class": 8, "unlabelled": "rest"}
DOMAINS = ("adabn", "cdan", "coral", "dan", "dann", "importance", "mcc", "self_training", "tent")
DATA = {"fixmatch": REST} | dict.fromkeys(DOMAINS, REST)
FIT = {
    "ale": {"epochs": 40, "lr": 0.03},
    "devise": {"epochs": 40, "lr": 0.03},
    "bitfit": FAST,
    **{name: {"epochs": 6, "lr": 0.01} for name in DOMAINS},
    "coral": {"epochs": 8, "lr": 0.02},
    "fixmatch": {"epochs": 5, "lr": 0.01},
    "importance": {"epochs": 8, "lr": 0.02},
    "ia3": FAST,
    "probe": {"epochs": 40, "lr": 0.03},
    "prompts": {"epochs": 6, "lr": 0.03},
    "ssf": FAST,
}
VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
BACKBONES = {
    "prompts": BackboneSettings(source="timm:vit_tiny_patch16_224", args=VIT, pretrained=False, size=16),
}
OF_TASKS = ("multi_task",)  # of two tasks in one table
OF_TRAINED = ("tent",)  # they start from a network with a head for the classes
OF_TEXTS = ("prompt",)  # the tiny images of the others are no texts
TICKETS = ("eszsl", "full", "lora", "lp_ft", "prompt", "prototypes", "self_training", "simpleshot")
REPEATED = ("ewc", "fixmatch", "full", "multi_task", "prompt", "prototypes", "replay", "self_training")
STAYING = ("houlsby", "parallel_adapter", "prompts")


# They differ from one of their family by a loss or a formula, which has tests of its own.
ALIKE = (
    "ale", "anil", "bi_tuning", "bss", "cdan", "coral", "dan", "dap", "freeze", "gdumb", "ia3", "iap", "importance",
    "lwf", "matching", "parallel_adapter", "relation", "reptile", "si", "ssf",
)  # fmt: skip


def by_default(names):
    """All strategies; those that are not among the names are left to the slow tests."""
    return [pytest.param(one, marks=() if one in names else pytest.mark.slow) for one in OPTIONS]


@pytest.fixture(scope="module", params=by_default(OPTIONS.keys() - set(ALIKE)))
def name(request):
    return request.param


# By name, and not by fixtures of the module that depend on the parameter: where tests of several strategies take turns,
# as they do when processes share them, pytest keeps such a fixture for the next strategy.
@pytest.fixture(scope="module")
def materials(tmp_path_factory, data):
    return cache(lambda name: open_material(tmp_path_factory, data, name))


@pytest.fixture
def material(materials, name):
    return materials(name)


@pytest.fixture(scope="module")
def results(tmp_path_factory, materials):
    return cache(lambda name: adapted(tmp_path_factory.mktemp(name) / "net", materials(name), name))


@pytest.fixture
def made(results, name) -> Artifact:
    return results(name)


def open_material(tmp_path_factory, data, name):
    """Return the network that a strategy starts from, and its data."""
    if name in OF_TEXTS:
        return pretrained_encoder(tmp_path_factory.mktemp("texts"))
    before, examples = BACKBONES.get(name, tiny.BACKBONE), data_for(name, data, tmp_path_factory.mktemp("data"))
    if name in OF_TRAINED:
        fit, out = {"epochs": 6, "lr": 0.01}, tmp_path_factory.mktemp("trained") / "net"
        before = tiny.stage("finetune", before, out, data, options=PLAIN, fit=fit)
    return before, examples


def pretrained_encoder(folder):
    """A tiny encoder with its head for masked tokens, and labelled texts."""
    rows = texts(80)
    folder.joinpath("alone.txt").write_text("".join(f"{text} . it was {label} .\n" for text, label in rows))
    args = {"vocabulary": 80, "width": 24, "layers": 2, "heads": 3, "mlp": 48}
    encoder = BackboneSettings(source=ENCODER, args=args, size=24, pretrained=False)
    alone = DataSettings(source=str(folder / "alone.txt"), labels="none")
    fit = {"epochs": 1, "lr": 0.01}
    labelled = write_lines(folder / "labelled.txt", rows)
    return tiny.stage("pretrain", encoder, folder / "own", alone, fit=fit), tiny.data_of(labelled)


@pytest.fixture(scope="module")
def null(tmp_path_factory, data) -> Artifact:
    """The backbone with a fresh head, not trained."""
    return adapted(tmp_path_factory.mktemp("null") / "net", (tiny.BACKBONE, data), "full", epochs=0)


def data_for(name, data, folder):
    """The data that a strategy needs."""
    if name in OF_TASKS:
        return tiny.two_tasks(folder)
    if STRATEGIES[name].needs_class_embeddings:
        return data.model_copy(update={"class_embeddings": str(tiny.write_classes(folder / "classes.csv"))})
    return data.model_copy(update=DATA.get(name, {}))


def adapted(out, material, name, **fit):
    backbone, data = material
    told = {"strategy": name, "options": OPTIONS[name], "fit": {**FIT.get(name, BRIEF), **fit}}
    return tiny.stage("finetune", backbone, out, data, **told)


def test_the_table_covers_all():
    assert OPTIONS.keys() == STRATEGIES.keys()
    assert list(STRATEGIES) == sorted(STRATEGIES)


def test_is_its_settings_and_one_class_deep(name):
    cls = STRATEGIES[name]
    assert Strategy in cls.__bases__ or Strategy in cls.__bases__[0].__bases__, "at most one base of its family between"
    assert cls().plain().keys() >= Strategy().plain().keys()
    assert cls.__doc__
    documented = "\n".join(base.__doc__ or "" for base in cls.__mro__ if issubclass(base, Strategy))
    assert [field for field in cls.model_fields if f" {field}: " not in documented] == []


def test_learns(made, null, name):
    report = made.manifest.report
    assert report.score("val") >= 75
    assert report.score("val") > null.manifest.report.score("val")
    if STRATEGIES[name].solves:
        return
    (losses,) = [curve.points for curve in report.curves if curve.y == "loss"]
    assert losses[-1][1] < log(3), "better than guessing"


@pytest.mark.parametrize("name", by_default(REPEATED), scope="module")
def test_repeats_bit_for_bit(made, material, tmp_path, name):
    """Those that draw numbers of their own; the others draw as `full` does, and repeat again in the slow tests."""
    again = adapted(tmp_path / "again", material, name)
    assert again.manifest.key == made.manifest.key
    assert again.manifest.files["weights.safetensors"] == made.manifest.files["weights.safetensors"]


def start(name):
    if name in OF_TEXTS:
        return text_tasks.encoder_with_masked_head()
    net = Net({"source": "timm:vit_tiny_patch16_224", "args": VIT}, PREPROCESS) if name in BACKBONES else body()
    if name in OF_TRAINED:
        new_head(net, task(), 0, None)
    return net


def task_for(name, seed=0):
    if name in OF_TEXTS:
        return text_tasks.text_task(pattern=OPTIONS[name]["pattern"])
    return two_tasks(seed) if name in OF_TASKS else task(seed=seed)


class KilledError(Exception):
    pass


def test_goes_on_bit_for_bit_after_it_was_killed(tmp_path, name):
    batch = {} if STRATEGIES[name].solves else {"batch": 16}
    given, strategy = task_for(name), build(STRATEGIES[name], {**OPTIONS[name], **batch}, "options")

    def kill(done):
        if done == 7:
            raise KilledError

    torch.manual_seed(0)
    _, _, whole, rows = adapt(strategy, given, net=start(name), work=Work(tmp_path / "whole"))
    if strategy.solves:
        assert rows == []
        return
    with pytest.raises(KilledError):
        torch.manual_seed(0)
        adapt(strategy, given, net=start(name), work=Work(tmp_path / "parts"), after=kill)
    torch.manual_seed(0)
    _, _, parts, told = adapt(strategy, given, net=start(name), work=Work(tmp_path / "parts"))
    assert [row["loss"] for row in told] == [row["loss"] for row in rows]
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


@pytest.mark.slow
def test_the_labels_of_a_target_have_no_say(name):
    if name in OF_TASKS:
        return  # data of several tasks have no target
    strategy = build(STRATEGIES[name], OPTIONS[name], "options")
    given = attach_target(replace(task_for(name), unlabelled=None), task_for(name, seed=1))
    fit = {"epochs": 1, "keep": "best"}
    torch.manual_seed(0)
    _, _, one, _ = adapt(strategy, given, net=start(name), **fit)
    torch.manual_seed(0)
    _, _, other, _ = adapt(strategy, scrambled(given), net=start(name), **fit)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_leaves_a_plain_network_that_rebuilds(made, name):
    net = made.net()
    assert type(net) is Net
    classes = {**dict.fromkeys(OF_TEXTS, ("bad", "good")), **dict.fromkeys(OF_TASKS, tiny.TASK_CLASSES)}
    assert net.classes == classes.get(name, tiny.CLASSES)
    with torch.inference_mode():
        assert net(example_input(net)).shape == (2, len(net.classes))


def test_leaves_nothing_frozen_and_no_hooks(made, name):
    if name not in STAYING:
        strategy = build(STRATEGIES[name], OPTIONS[name], "options")
        net, *_ = adapt(strategy, task_for(name), net=start(name), epochs=1)
        assert all(p.requires_grad for p in net.parameters()), "for the stages after it"
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
        assert not net.training


@pytest.mark.parametrize("name", by_default(TICKETS), scope="module")
def test_keeps_a_tickets_zeros(material, tmp_path, name):
    """Those that set weights by themselves; the others train as `full` does, and again in the slow tests."""
    backbone, data = material
    # A ticket has no head for masked tokens, of which a prompt could make its own.
    first = {"strategy": name, "options": OPTIONS[name]} if name in OF_TEXTS else {}
    before = tiny.stage("finetune", backbone, tmp_path / "net", data, fit={"epochs": 0}, **first)
    ticket = tiny.stage("prune lottery", before, tmp_path / "ticket", data, rounds=1, fit={"epochs": 0})
    fit = {**FIT.get(name, BRIEF), "epochs": 1}
    again = tiny.stage("finetune", ticket, tmp_path / "on", data, strategy=name, options=OPTIONS[name], fit=fit)
    net = again.net()
    assert net.masks()
    assert all(bool((net.get_parameter(n)[~keep] == 0).all()) for n, keep in net.masks().items())


def test_leaves_the_architecture_as_it_was_unless_an_adapter_stays(made, null, name):
    if name not in STAYING:
        assert body_edits(made.manifest.edits) == body_edits(null.manifest.edits)
        (head,) = [edit for edit in made.manifest.edits if edit["kind"] == "set_head"]
        assert head["spec"] == (build(STRATEGIES[name], OPTIONS[name], "options").head() or {"kind": "linear"})
        assert name in OF_TEXTS or made.manifest.backbone == null.manifest.backbone


def test_leaves_an_adapter_where_it_says_so(made, name):
    assert (ADAPTER in made.manifest.files) == bool(STRATEGIES[name].adds)
    assert STRATEGIES[name]().keeps_adapters() == (name in STAYING)
    assert [edit["kind"] for edit in adapters(made.net())] == [name] * (name in STAYING)


@pytest.mark.parametrize("name", by_default(("eszsl", "full", "prompt", "prototypes", *STAYING)), scope="module")
def test_reaches_a_checked_export(material, tmp_path, name):
    """Those that leave the architecture as it was are exported as `full` is, and again in the slow tests."""
    made = adapted(tmp_path / "net", material, name)
    report = tiny.stage("export", made, tmp_path / "onnx", material[1], int8=False).manifest.report
    assert report["parity/agreement"].value == 100
    assert report.score("val/fp32") == made.manifest.report.score("val")
