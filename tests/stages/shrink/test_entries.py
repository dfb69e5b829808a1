from types import SimpleNamespace

import pytest

from effxfer.stages.shrink.entries import Entry, building_order, kinds_for
from tests import tiny


def network(ratio, *, is_trained=True, full_side=32, **changes):
    settings = tiny.settings_of("shrink", kinds=["images", "larger images", "channels"], **changes)
    return SimpleNamespace(
        present=SimpleNamespace(ratio=ratio), is_trained=is_trained, full_side=full_side, settings=settings,
        net=SimpleNamespace(input=SimpleNamespace(size=16)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("candidate", "kinds"),
    [
        (network(1.0), ["images", "channels"]),
        (network(0.6, is_trained=False), ["images"]),
        (network(0.45, is_trained=False), ["unchanged"]),
        (network(0.2, is_trained=False), ["unchanged", "larger images"]),
        (network(0.2, is_trained=False, full_side=16), ["unchanged"]),
    ],
)
def test_what_applies_depends_on_the_latency_that_a_network_has(candidate, kinds):
    assert kinds_for(candidate, 0.5) == kinds


def test_what_needs_no_building_comes_first_then_each_kind_on_the_fastest_network():
    slow, fast, faster = network(1.0), network(0.4), network(0.7)
    names = {id(slow): "slow", id(fast): "fast", id(faster): "faster"}
    order = building_order([slow, fast, faster], ["images", "larger images", "channels"], 0.5)
    assert [(names[id(each)], kind) for each, kind in order] == [
        ("fast", "unchanged"),
        ("faster", "images"),
        ("slow", "images"),
        ("faster", "channels"),
        ("slow", "channels"),
    ]


def test_a_network_as_it_is_has_its_own_name():
    assert Entry(network="resnet18", kind="unchanged", timing=None, detail="").name == "resnet18"
    assert Entry(network="resnet18", kind="images", timing=None, detail="").name == "resnet18, images"
