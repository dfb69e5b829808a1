"""Latency that is multiply-adds, half of them in int8: what is built does not depend on the machine's clock."""

from contextlib import contextmanager

import pytest

from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.stages.prune.control_networks import multiply_adds
from effxfer.stages.shrink import shrink as module
from effxfer.stages.shrink.kinds.kind import Workbench
from effxfer.train.devices import pick_device
from tests import tiny
from tests.prune.channels.test_to_latency import cost


class Costs:
    """A cost table of multiply-adds."""

    step = 8
    ms = staticmethod(cost)


def timing(net, dense, factor=1.0):
    ratio = factor * multiply_adds(net) / multiply_adds(dense)
    return PairedTiming(ratio=ratio, low=ratio, high=ratio, ms=10 * ratio, dense_ms=10.0, n=5)


@contextmanager
def counting_clock(dense, settings):
    yield lambda net, shipping: timing(net, dense, 0.5 if shipping.int8 else 1.0)


@pytest.fixture
def counted(monkeypatch):
    """Count multiply-adds instead of timing files, in the stage and in the table of layers."""
    monkeypatch.setattr(module, "shipping_clock", counting_clock)
    count_layers(monkeypatch)


def count_layers(monkeypatch):
    """Count multiply-adds in place of the table of layers."""
    for kind in ("channels_to_latency", "low_rank"):
        monkeypatch.setattr(f"effxfer.stages.shrink.kinds.{kind}.measure_costs", lambda *_, **__: Costs())


def bench(net, task, limit, **changes):
    """A workbench whose clock counts multiply-adds."""
    return Workbench(
        limit=limit, present=timing(net, net), time=lambda smaller: timing(smaller, net),
        task_for=lambda smaller: task.with_input(smaller.input),
        settings=tiny.settings_of("shrink", latency_ratio=limit, **changes), device=pick_device("cpu"), full_side=24,
    )  # fmt: skip
