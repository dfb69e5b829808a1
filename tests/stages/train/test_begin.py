"""What a training stage starts with: a strategy, a head and a loss."""

import pytest

from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.stages.settings.common import Finetune
from effxfer.stages.train.begin import begin_training
from effxfer.train.settings import Teacher
from tests.transfer.tasks import CPU, body, task


def test_a_network_gets_a_head_for_the_last_task_once():
    net, settings = body(), build(Finetune, {}, "finetune")
    assert begin_training(net, [task()], settings, CPU).head_is_new
    assert net.classes == task().classes
    head = net.head
    assert not begin_training(net, [task()], settings, CPU).head_is_new
    assert net.head is head


def test_without_a_teacher_the_loss_is_the_strategys():
    training = begin_training(body(), [task()], build(Finetune, {"strategy": "full"}, "finetune"), CPU)
    assert training.loss == training.strategy.loss


def test_a_new_head_teaches_nothing():
    net, settings = body(), build(Finetune, {}, "finetune").model_copy(update={"teacher": Teacher(logits=0.5)})
    with pytest.raises(SettingsError, match="not trained for these classes"):
        begin_training(net, [task()], settings, CPU)
    training = begin_training(net, [task()], settings, CPU)
    assert training.loss != training.strategy.loss


def test_a_number_format_that_is_slow_here_is_noted(monkeypatch):
    monkeypatch.setattr(
        "effxfer.stages.train.begin.slow_precision", lambda _device, amp: "slow" if amp == "bf16" else ""
    )
    for amp, noted in (("bf16", ["slow"]), ("auto", [])):
        settings = build(Finetune, {"fit": {"amp": amp}}, "finetune")
        assert [note for note in begin_training(body(), [task()], settings, CPU).notes.notes if note == "slow"] == noted
