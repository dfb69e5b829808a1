from dataclasses import replace

import numpy as np
import pytest

from effxfer.data.task import subset
from effxfer.errors import SettingsError
from effxfer.runtime.outputs.single_label import SINGLE_LABEL
from effxfer.settings import build
from effxfer.stages.train.finetune import accuracy_report
from effxfer.train.evaluate import predict
from effxfer.transfer import STRATEGIES
from effxfer.transfer.fine_tuning.full import Full
from effxfer.transfer.fine_tuning.probe import Probe
from tests.transfer.tasks import CPU, adapt, body, task

PLAIN = {"batch": 16, "augment": {"crop": "none", "flip": False}}


def lopsided(rare: int = 2):
    """The task of stripes with few images of its second class."""
    plain = task(count=160)
    rows = np.array([i for i, label in enumerate(plain.train.labels) if label == 0 or i < 2 * rare])
    return replace(plain, train=subset(plain.train, rows))


def balanced(net, given):
    logits = predict(net, given.test.rows, net.input, CPU)
    return SINGLE_LABEL.balanced_score(logits.numpy(), given.test.labels).value


@pytest.mark.slow
def test_rare_classes_are_found_that_plain_training_gives_up():
    """The claim, against balance = 0 with the same number of steps, mean of three drawn networks."""
    given, reached = lopsided(), {}
    for balance in (0.0, 1.0):
        runs = [adapt(Full(**PLAIN, balance=balance), given, net=body(seed), epochs=4)[0] for seed in range(3)]
        reached[balance] = np.mean([balanced(net, given) for net in runs])
    assert reached[1.0] > reached[0.0] + 15


def test_the_epoch_is_chosen_by_the_balanced_accuracy():
    given = lopsided()
    uneven = replace(given, val=subset(given.val, np.array([*range(0, 24, 2), 1])))
    net, *_ = adapt(Full(**PLAIN), given, epochs=0)
    rows = accuracy_report(net, uneven, CPU)
    assert Full(balance=1.0).judge(net, [uneven], CPU) == pytest.approx(rows["balanced accuracy/val"].value)
    assert Full().judge(net, [uneven], CPU) == pytest.approx(rows["accuracy/val"].value)


def test_the_balanced_accuracy_stands_only_where_classes_differ_in_size():
    given = task()
    net, *_ = adapt(Full(**PLAIN), given, epochs=0)
    assert "balanced accuracy/val" not in [row.name for row in accuracy_report(net, given, CPU).rows]


def test_a_probe_shows_rare_classes_as_often():
    given = lopsided()
    batches = Probe(batch=16, balance=1.0).draw(adapt(Full(**PLAIN), given, epochs=0)[0], [given], CPU.torch)(0)
    labels = np.concatenate([labels.numpy() for _, labels in batches])
    assert abs(labels.mean() - 0.5) < 0.1


def test_episodes_are_balanced_already():
    with pytest.raises(SettingsError, match="balance has no effect"):
        build(STRATEGIES["prototypes"], {"balance": 1.0}, "options")
