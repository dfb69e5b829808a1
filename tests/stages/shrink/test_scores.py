"""What ships of a candidate; outputs of its int8 file are invented."""

from types import SimpleNamespace

import numpy as np
import pytest

from effxfer.stages.shrink.scores import scores_of
from effxfer.transfer.fine_tuning.full import Full
from tests import tiny
from tests.transfer.tasks import CPU, adapt, task

PLAIN = {"batch": 12, "augment": {"crop": "none", "flip": False}}


def trained_net():
    """A network that was trained for stripes, and these."""
    stripes = task()
    net, *_ = adapt(Full(**PLAIN), stripes, epochs=4)
    return net.eval(), stripes


@pytest.fixture(scope="module")
def trained():
    return trained_net()


def contest(stripes, *, right=0, int8=True, **changes):
    """All that scoring and training need; the int8 file answers `right` of the validation images correctly."""
    wrong = np.eye(2, dtype=np.float32)[1 - stripes.val.labels]
    wrong[:right] = 1 - wrong[:right]
    shipping = SimpleNamespace(
        int8=int8, precision="int8" if int8 else "float32", outputs=lambda _net, _task, _device: wrong
    )
    return SimpleNamespace(
        settings=tiny.settings_of("shrink", fit={**tiny.FIT, "epochs": 3}, **changes), strategy=Full(**PLAIN),
        network_of=lambda _name: SimpleNamespace(shipping=shipping), task_for=lambda _net: stripes,
        tasks_for=lambda _net: [stripes], loss_for=lambda _net, _kept: Full(**PLAIN).loss, device=CPU, now=lambda: 0.0,
    )  # fmt: skip


def test_the_more_accurate_of_two_files_in_time_ships(trained):
    net, stripes = trained
    float32 = scores_of(contest(stripes, int8=False), net, "net", can_ship_float=False)["val"]
    assert float32 > 50
    only = scores_of(contest(stripes), net, "net", can_ship_float=False)
    assert (only["ships"], only["val"], only["int8"], only["float"]) == ("int8", 0.0, 0.0, float32)
    both = scores_of(contest(stripes), net, "net", can_ship_float=True)
    assert (both["ships"], both["val"], both["int8"]) == ("float32", float32, 0.0)
    equal = scores_of(contest(stripes, right=len(stripes.val)), net, "net", can_ship_float=True)
    assert (equal["ships"], equal["val"]) == ("int8", 100.0), "the faster one of equal ones"
