"""What every strategy that learns from images without labels promises; a new one needs a line in `OPTIONS`."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from effxfer.errors import GateError, SettingsError
from effxfer.net.edits import remove_head
from effxfer.net.net import Net
from effxfer.settings import build
from effxfer.stages.train.finetune import train
from effxfer.train.settings import FitSettings
from effxfer.train.state import Work, clone
from effxfer.transfer import SELF_SUPERVISED
from effxfer.transfer.base import Strategy
from effxfer.transfer.self_supervised.mae import MaskedAutoencoder
from effxfer.transfer.self_supervised.moco import MoCo
from effxfer.transfer.self_supervised.simsiam import SimSiam
from effxfer.transfer.self_supervised.vicreg import VicReg
from effxfer.transfer.self_supervised.views import draw_views
from tests.transfer.tasks import CPU, PREPROCESS, body, task

SMALL = {"batch": 16, "augment": {"scale": 0.5, "colour": 0.2}}
OPTIONS = {
    "barlow_twins": {**SMALL, "width": 16},
    "byol": {**SMALL, "width": 8, "hidden": 16},
    "mae": {**SMALL, "width": 8, "depth": 1},
    "moco": {**SMALL, "width": 8, "hidden": 16, "queue": 40},
    "rotation": SMALL,
    "simclr": {**SMALL, "width": 8, "hidden": 16},
    "simsiam": {**SMALL, "width": 16, "hidden": 8},
    "vicreg": {**SMALL, "width": 16},
}


VIT = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}


@pytest.fixture(params=sorted(OPTIONS))
def name(request):
    return request.param


def strategy_of(name: str, **options) -> Strategy:
    return build(SELF_SUPERVISED[name], {**OPTIONS[name], **options}, "options")


def start(strategy: Strategy) -> Net:
    if not isinstance(strategy, MaskedAutoencoder):
        return body()
    torch.manual_seed(0)
    return Net({"source": "timm:vit_tiny_patch16_224", "args": VIT}, PREPROCESS)


def pretrain(strategy: Strategy, given=None, work=Work(None), after=None, **fit):  # noqa: B008
    """Train the tiny body; give its state and the rows."""
    net = start(strategy)
    settings = FitSettings(**{"epochs": 2, "lr": 0.003, "warmup": 0.0, "keep": "last", **fit})
    after = after or (lambda _done: None)
    rows = train(net, [given or task()], strategy, settings, device=CPU, seed=1, work=work, after_step=after)
    return net, clone(net), rows


class KilledError(Exception):
    pass


def test_the_table_covers_all():
    assert OPTIONS.keys() == SELF_SUPERVISED.keys() - {"mlm"}
    assert list(SELF_SUPERVISED) == sorted(SELF_SUPERVISED)


def test_is_its_settings_and_one_class_deep(name):
    cls = SELF_SUPERVISED[name]
    assert Strategy in cls.__bases__ or Strategy in cls.__bases__[0].__bases__, "at most one base of its family between"
    documented = "\n".join(base.__doc__ or "" for base in cls.__mro__ if issubclass(base, Strategy))
    assert [field for field in cls.model_fields if f" {field}: " not in documented] == []


def test_goes_on_bit_for_bit_after_it_was_killed(tmp_path, name):
    def kill(done):
        if done == 15:  # of 9 steps an epoch
            raise KilledError

    strategy = strategy_of(name)
    torch.manual_seed(0)
    _, whole, rows = pretrain(strategy, work=Work(tmp_path / "whole"))
    with pytest.raises(KilledError):
        torch.manual_seed(0)
        pretrain(strategy, work=Work(tmp_path / "parts"), after=kill)
    torch.manual_seed(5)
    _, parts, resumed = pretrain(strategy, work=Work(tmp_path / "parts"))
    assert [row["loss"] for row in resumed] == [row["loss"] for row in rows]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_labels_have_no_say_and_the_result_is_a_plain_network(name):
    given = task()
    scrambled = replace(given, train=replace(given.train, labels=np.zeros_like(given.train.labels)))
    net, state, rows = pretrain(strategy_of(name), given, epochs=1, keep="best")
    _, other, _ = pretrain(strategy_of(name), scrambled, epochs=1, keep="best")
    assert all(torch.equal(state[key], other[key]) for key in state)
    assert type(net) is Net
    assert net.classes == ()
    assert all(p.requires_grad for p in net.parameters())
    assert "score" in rows[0]


def test_options_of_labels_are_refused(name):
    for option in ({"label_smoothing": 0.1}, {"balance": 1.0}, {"augment": {"mixup": 0.2}}):
        with pytest.raises(SettingsError, match="no effect on a strategy that uses no labels"):
            strategy_of(name, **option)


def test_a_loss_changes_no_state_beside_statistics_of_batches(name):
    strategy = strategy_of(name)
    learner = strategy.prepare(start(strategy), [task()])
    strategy.begin_epoch(learner, 0.0)
    state = clone(learner)
    batch = strategy.draw(learner, [task()], CPU.torch)(0)[0]
    losses = [sum(strategy.loss(learner, batch, 0.0).values()) for _ in range(2)]
    assert torch.equal(losses[0], losses[1])
    changed = {key for key, tensor in learner.state_dict().items() if not torch.equal(tensor, state[key])}
    assert all(key.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked") for key in changed)


def test_views_are_made_of_images_with_and_without_labels():
    given = task()
    batches = draw_views([given], 16, SimSiam().augment, CPU.torch)(3)
    assert len(batches) == (48 + 96) // 16
    assert batches[0].shape == (32, 3, 16, 16)
    alone = replace(given, unlabelled=None)
    assert len(draw_views([alone], 16, SimSiam().augment, CPU.torch)(3)) == 3


def test_the_rows_of_a_batch_are_views_of_the_same_images_in_the_same_order():
    given = task()
    plain = SimSiam(augment={"crop": "none", "flip": False, "colour": 0.0}).augment
    first, second = draw_views([given], 16, plain, CPU.torch)(3)[0].chunk(2)
    assert torch.equal(first, second)


def test_a_slow_copy_follows_and_a_queue_takes_the_latest_keys():
    strategy = MoCo(**{**OPTIONS["moco"], "momentum": 0.75})
    learner = strategy.prepare(body(), [task()])
    strategy.begin_epoch(learner, 0.0)
    before = clone(learner.slow.net)
    with torch.no_grad():
        for parameter in learner.net.parameters():
            parameter.add_(1)
    for step in range(2):
        strategy.loss(learner, strategy.draw(learner, [task()], CPU.torch)(0)[step], 0.0)
        keys = learner.latest
        strategy.after_step(learner, step + 1, 0.0)
    for key, parameter in learner.slow.net.named_parameters():
        torch.testing.assert_close(parameter, before[key] + 1 - 0.75**2)
    rows = (torch.arange(32) + 32) % 40
    assert torch.equal(learner.queue[rows], keys)
    assert int(learner.oldest) == 64 % 40
    torch.testing.assert_close(learner.queue.norm(dim=1), torch.ones(40))


@pytest.mark.parametrize(
    "strategy",
    [SimSiam(**{**OPTIONS["simsiam"], "stop_gradient": False}), VicReg(**{**OPTIONS["vicreg"], "variance": 0.0})],
    ids=["no stopped gradient", "no variance"],
)
def test_collapse_is_stopped_with_its_cause(strategy):
    given = task()
    with pytest.raises(GateError, match="projections collapsed: their effective rank is 1") as caught:
        pretrain(strategy, replace(given, val=given.train), epochs=40, lr=0.03)
    assert caught.value.code == "E603"
    assert "vicreg" in caught.value.hint


def test_a_network_loses_its_head_and_its_masks():
    from effxfer.net.edits import apply_edit
    from effxfer.stages.train.head import new_head

    net = body()
    new_head(net, task(), 0)
    apply_edit(net, "sparsify", weights=["body.stem.0.weight", "head.out.weight"])
    remove_head(net)
    assert set(net.masks()) == {"body.stem.0.weight"}
    assert [edit["kind"] for edit in net.edits] == ["sparsify"]
    assert net(torch.zeros(2, 3, 16, 16)).shape[0] == 2
    assert net.classes == ()
