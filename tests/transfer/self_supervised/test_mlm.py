from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("tokenizers")

from effxfer.data.batches.masking import IGNORED
from effxfer.data.task import Task
from effxfer.errors import SettingsError
from effxfer.net.net import Net
from effxfer.net.text.masked_head import masked_head
from effxfer.runtime.outputs.masked_token import MaskedToken
from effxfer.settings import build
from effxfer.stages.train.finetune import train
from effxfer.stages.train.head import new_head
from effxfer.train.evaluate import predict
from effxfer.train.optim.gradients import Gradients
from effxfer.train.optim.microbatch import split
from effxfer.train.settings import FitSettings
from effxfer.train.state import Work, clone
from effxfer.transfer.self_supervised.mlm import MaskedLm
from tests.transfer.tasks import CPU, adapt
from tests.transfer.text_tasks import encoder, text_task

STRATEGY = MaskedLm(batch=8)


def fit(task: Task, net: Net, strategy: MaskedLm = STRATEGY, *, work=Work(None), after=None, **changes):  # noqa: B008
    settings = FitSettings(**{"epochs": 2, "lr": 0.01, "warmup": 0.0, "keep": "last", **changes})
    after = after or (lambda _done: None)
    rows = train(net, [task], strategy, settings, device=CPU, seed=1, work=work, after_step=after)
    return net, clone(net), rows


def test_it_learns_which_tokens_texts_have():
    task, net = text_task(128), encoder()
    STRATEGY.prepare(net, [task])
    before = STRATEGY.measure(net, task, CPU)
    fit(task, net, epochs=4)
    report = STRATEGY.measure(net, task, CPU)
    assert report["perplexity/test"].value < before["perplexity/test"].value / 1.5
    assert report["accuracy/test"].value > before["accuracy/test"].value
    assert report["accuracy/val"].of == "masked tokens"


def test_an_untrained_network_is_as_perplexed_as_the_vocabulary_is_large():
    task, net = text_task(), encoder()
    STRATEGY.prepare(net, [task])
    vocabulary = net.output.width
    assert STRATEGY.measure(net, task, CPU)["perplexity/val"].value == pytest.approx(vocabulary, rel=0.3)


def test_masks_are_drawn_anew_in_each_epoch_and_repeat_with_their_seed():
    task, net = text_task(), encoder()
    draw = STRATEGY.draw(STRATEGY.prepare(net, [task]), [task], CPU.torch)

    def targets(seed: int):
        return {int(i): t[t != IGNORED].tolist() for _, ts, index in draw(seed) for i, t in zip(index, ts, strict=True)}

    assert targets(3) == targets(3)
    first, second = targets(3), targets(4)
    assert sum(first[i] != second[i] for i in first) > len(first) / 2


def test_validation_masks_are_fixed():
    task, net = text_task(), encoder()
    STRATEGY.prepare(net, [task])
    assert STRATEGY.scores(net, task.val, CPU) == STRATEGY.scores(net, task.val, CPU)


def test_a_batch_in_parts_has_the_gradient_of_the_whole():
    task, net = text_task(), encoder()
    net.input = task.input
    learner = STRATEGY.prepare(net, [task])
    batch = STRATEGY.draw(learner, [task], CPU.torch)(0)[0]
    gradients = []
    for parts in (1, 4):
        learner.zero_grad()
        Gradients(learner, STRATEGY.loss, CPU, "off").add_up(batch, 0.0, parts)
        gradients.append([p.grad.clone() for p in learner.parameters() if p.grad is not None])
    assert len(split(batch, 4)) == 4
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_labels_have_no_say():
    task = text_task()
    other = replace(task, train=replace(task.train, labels=np.roll(task.train.labels, 1)))
    (_, one, _), (_, two, _) = fit(task, encoder()), fit(other, encoder())
    assert all(torch.equal(one[key], two[key]) for key in one)


class StoppedError(Exception):
    pass


def test_it_goes_on_bit_for_bit_after_it_was_killed(tmp_path):
    task = text_task()

    def stop(step):
        if step == 11:
            raise StoppedError

    _, whole, rows = fit(task, encoder(), work=Work(tmp_path / "whole"))
    with pytest.raises(StoppedError):
        fit(task, encoder(), work=Work(tmp_path / "parts"), after=stop)
    _, parts, resumed = fit(task, encoder(), work=Work(tmp_path / "parts"))
    assert [row["loss"] for row in resumed] == [row["loss"] for row in rows]
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_the_head_goes_on_and_finetune_replaces_it():
    task = text_task()
    net, *_ = fit(task, encoder(), epochs=1)
    head = masked_head(net)
    net, *_ = fit(task, net, epochs=1)
    assert masked_head(net) is head
    assert net.output == MaskedToken(vocabulary=head.bias.shape[0])
    assert new_head(net, task, 0)
    trained, *_ = adapt(build(type(STRATEGY).__mro__[1], {"batch": 8}, "options"), task, net, epochs=1)
    assert predict(trained, task.test.rows, task.input, CPU).shape == (24, 2)


@pytest.mark.parametrize(
    "options",
    [{"augment": {"flip": False}}, {"balance": 0.5}, {"label_smoothing": 0.1}, {"keep": 0.7, "random": 0.7}],
)
def test_settings_without_an_effect_or_a_sense_are_refused(options):
    with pytest.raises(SettingsError, match=r"has no effect on mlm|shares of the hidden tokens"):
        build(MaskedLm, options, "options")
