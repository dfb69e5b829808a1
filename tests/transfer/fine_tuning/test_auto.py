import pytest
import torch

from effxfer.settings import build
from effxfer.transfer.fine_tuning.auto import Auto, Facts, Shift, decide, measure_knowledge
from effxfer.transfer.fine_tuning.freeze import Freeze
from effxfer.transfer.fine_tuning.full import Full
from effxfer.transfer.fine_tuning.lp_ft import LpFt
from tests.transfer.tasks import task


def facts(labels=100, low=60.0, top=80.0, shift=0.2):
    return Facts(labels=labels, probes={"stage1": low, "out": top}, shift=shift, n=50)


@pytest.mark.parametrize(
    ("found", "cls", "options"),
    [
        (facts(labels=5), LpFt, {"l2": 0.01, "batchnorm": "frozen"}),
        (facts(labels=5, shift=2.0), LpFt, {"l2": 0.01}),
        (facts(top=99.0), Freeze, {"until": 0.75}),
        (facts(low=90.0), Full, {}),
        (facts(), LpFt, {"l2": 0.01}),
    ],
)
def test_what_is_chosen_by_what_was_measured(found, cls, options):
    assert decide(found, 20)[:2] == (cls, options)


def test_a_body_that_knows_the_task_is_told_from_one_that_does_not(pretrained):
    """The claim: the end of a trained body tells its classes apart, and little of it needs to move."""
    given, net = task(), pretrained()
    known = measure_knowledge(net, given)
    assert known.labels == 24
    assert list(known.probes)[-1] == "out"
    assert known.probes["out"] >= 98
    chosen, report = Auto(few=5, batch=12, label_smoothing=0.1).choose(net, [given])
    assert chosen == Freeze(until=0.75, batch=12, label_smoothing=0.1)
    (note,) = report.notes
    assert note.startswith("auto chose freeze (until = 0.75): a probe on the last features reaches")
    assert report["probe/out"].n == 24
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in net.modules())
    few, _ = Auto(batchnorm="train").choose(net, [given.__class__(**{**vars(given), "train": first(given.train, 8)})])
    assert few == LpFt(l2=0.01, batchnorm="train"), "what was given is kept"
    left = {**vars(given), "train": first(given.train, 8)}
    loaded, _ = build(Auto, Auto().plain(), "auto").choose(net, [given.__class__(**left)])
    assert loaded == LpFt(l2=0.01, batchnorm="frozen"), "what was not given was not given in a manifest either"


def first(split, count):
    return type(split)(rows=split.rows[:count], labels=split.labels[:count], names=split.names[:count])


def test_the_shift_is_in_stored_deviations(pretrained):
    net = pretrained().eval()
    norm = net.body.stem[1]
    x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = net.body.stem[0](x).mean((0, 2, 3))
        for module in net.body.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_var.fill_(4.0)
        norm.running_mean.copy_(seen - 6)
        away = Shift(net)
        with away.recording():
            net.body(x)
    alone = (torch.stack(away.means[0]).mean(0) - norm.running_mean).abs() / 2
    torch.testing.assert_close(alone, torch.full_like(alone, 3.0), rtol=1e-3, atol=1e-3)
    assert away.value() > 0
