"""Every strategy trains a text encoder, or says that it needs images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.stages.train.head import new_head
from effxfer.train.evaluate import predict
from effxfer.train.state import Work
from effxfer.transfer import STRATEGIES
from effxfer.transfer.strategies import require_kind
from tests.transfer.tasks import CPU, accuracy, adapt
from tests.transfer.text_tasks import encoder, encoder_with_masked_head, text_task

pytest.importorskip("tokenizers")
OF_IMAGES = [name for name, strategy in STRATEGIES.items() if "text" not in strategy.inputs]
# A strategy of several tasks takes no single labels.
OF_TEXTS = [name for name in STRATEGIES if name not in OF_IMAGES and "single" in STRATEGIES[name].takes]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_strategies_of_images_say_so(name):
    with pytest.raises(SettingsError, match=rf"strategy '{name}' needs images.*, t holds texts") as caught:
        require_kind(STRATEGIES[name](), text_task())
    assert "full" in caught.value.hint
    assert name not in caught.value.hint.split(", ")


def test_strategies_that_vary_images_or_change_batchnorm_take_no_texts():
    few_shot = {"anil", "maml", "matching", "prototypes", "relation", "reptile", "simpleshot"}
    assert set(OF_IMAGES) == few_shot | {"adabn", "fixmatch"}


@pytest.mark.parametrize("name", OF_TEXTS)
def test_strategies_train_on_texts(name):
    # `prompt` starts from the head that guesses masked tokens, and from words of its vocabulary.
    options = ({} if STRATEGIES[name].solves else {"batch": 8}) | (
        {"words": {"bad": "cat", "good": "mat"}} if name == "prompt" else {}
    )
    net = encoder_with_masked_head() if name == "prompt" else encoder()
    task = text_task(pattern="{text} it was [MASK]" if name == "prompt" else "{text}")
    if STRATEGIES[name].needs_class_embeddings:
        task = replace(task, class_embeddings=np.array([[1, 0, 1], [0, 1, 1]], np.float32))
    if STRATEGIES[name].adapts_domain:
        task = replace(task, unlabelled=replace(task.val, labels=np.full(24, -1)))
    require_kind(STRATEGIES[name](), task)
    if name == "tent":  # it starts from a trained network
        new_head(net, task, 0, None)
    strategy, _ = build(STRATEGIES[name], options, "options").choose(net, [task])
    trained, before, after, rows = adapt(strategy, task, net, epochs=1, lr=0.01)
    assert len(rows) == (not strategy.solves)
    assert all(0 < row["loss"] < 10 for row in rows)
    changed = [key for key in before if key in after and not torch.equal(before[key], after[key])]
    assert any(key.startswith("head.") != (name == "tent") for key in changed)
    assert predict(trained, task.test.rows, task.input, CPU).shape == (24, 2)


@pytest.mark.parametrize("name", ["full", "lora"])
def test_an_encoder_learns_texts(name):
    task = text_task(128)
    net, *_ = adapt(build(STRATEGIES[name], {"batch": 8}, "options"), task, encoder(), epochs=6, lr=0.01)
    assert accuracy(net, task) > 90


def test_layers_of_an_encoder_have_decaying_rates():
    task = text_task()
    _, before, after, _ = adapt(STRATEGIES["full"](batch=8), task, encoder(), epochs=1, layer_decay=0.1)
    moved = [
        float((after[key] - before[key]).abs().mean())
        for key in ("body.blocks.0.mlp.fc1.weight", "body.blocks.1.mlp.fc1.weight")
    ]
    assert 0 < moved[0] < moved[1] / 5


class StoppedError(Exception):
    pass


def test_training_on_texts_goes_on_bit_for_bit_after_it_was_killed(tmp_path):
    task, strategy = text_task(), STRATEGIES["full"](batch=8)

    def stop(step):
        if step == 11:
            raise StoppedError

    _, _, whole, _ = adapt(strategy, task, encoder(), work=Work(tmp_path / "whole"))
    with pytest.raises(StoppedError):
        adapt(strategy, task, encoder(), work=Work(tmp_path / "parts"), after=stop)
    _, _, parts, rows = adapt(strategy, task, encoder(), work=Work(tmp_path / "parts"))
    assert len(rows) == 3
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
