"""Digits whose classes are new, and what a body without any episode reaches on them."""

import pytest

from effxfer.settings import build
from effxfer.stages.train.target_domain import evaluate_target
from tests.transfer.domains import PLAIN, body, new_classes
from tests.transfer.tasks import CPU, adapt

EPISODES = {**PLAIN, "batch": 1, "way": 6, "shot": 5, "query": 5, "episodes": 50}


@pytest.fixture(scope="package")
def digits():
    return new_classes()


@pytest.fixture(scope="package")
def one_shot(digits):
    """Train, and give the accuracy with one example of each of four new classes, with its interval."""

    def reach(strategy, options, epochs=2, **fit):
        net, *_ = adapt(build(strategy, options, "options"), digits, net=body(), epochs=epochs, **fit)
        return evaluate_target(net, digits, CPU)["accuracy/target 4-way 1-shot"]

    return reach
