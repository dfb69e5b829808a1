import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from effxfer.stages.shrink.contest import Contest, Network
from effxfer.stages.shrink.entries import (
    FAR_OFF,
    Entry,
    build,
    build_entries,
    building_order,
    entry_of,
    kinds_for,
    training_order,
)
from effxfer.stages.shrink.shipped import Shipping
from effxfer.stages.train.head import new_head
from effxfer.train.state import Work
from effxfer.transfer.fine_tuning.full import Full
from tests import tiny
from tests.stages.shrink.test_contest import timing
from tests.stages.train.test_head import f1, several
from tests.transfer.tasks import CPU, body


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


def entry(network, kind, val, state="net"):
    before = {"val": val} if state else {}
    return Entry(network=network, kind=kind, timing=None, detail="", state=state and {"net": state}, before=before)


def test_the_best_of_each_network_is_trained_first_then_the_others_by_what_they_know():
    trained, cut, narrow = entry("a", "images", 70.0), entry("a", "exit", 45.0), entry("a", "channels", 60.0)
    solved, larger = entry("b", "unchanged", 50.0), entry("b", "larger images", 55.0)
    refused = entry("c", "images", None, state=None)
    ordered = training_order([refused, solved, cut, narrow, larger, trained])
    assert ordered == [trained, larger, narrow, solved, cut, refused]


def test_what_is_slow_to_build_must_begin_in_the_first_half_of_the_time(monkeypatch):
    at = [0.0]

    def build(_contest, network, kind, _limit):
        at[0] += 3.0
        return {"timing": "", "detail": kind, "state": {"network": kind}, "before": {"val": 50.0}}

    monkeypatch.setattr("effxfer.stages.shrink.entries.build", build)
    each = network(1.0)
    each.name, each.number = "a", 0
    each.settings = tiny.settings_of("shrink", kinds=["images", "channels", "blocks"])
    contest = SimpleNamespace(settings=each.settings, now=lambda: at[0])
    entries = build_entries(contest, 0.5, [each], Work(None), due=10.0)
    built = {one.kind: bool(one.state) for one in entries}
    # At 3 seconds of 10 the channels still begin; at 6 the blocks do not, although the time is not over.
    assert built == {"images": True, "channels": True, "blocks": False}


def test_what_there_was_no_time_for_is_not_built_after_a_cut_either(monkeypatch, tmp_path):
    at, built = [0.0], []

    def build(_contest, _network, kind, _limit):
        built.append(kind)
        at[0] += 3.0
        return {"timing": "", "detail": kind, "state": {"network": kind}, "before": {"val": 50.0}}

    monkeypatch.setattr("effxfer.stages.shrink.entries.build", build)
    each = network(1.0)
    each.name, each.number = "a", 0
    contest = SimpleNamespace(settings=each.settings, now=lambda: at[0])
    first = build_entries(contest, 0.5, [each], Work(tmp_path), due=at[0] + 1.0)
    again = build_entries(contest, 0.5, [each], Work(tmp_path), due=at[0] + 1.0)
    assert built == ["images"]
    assert [(one.kind, one.detail) for one in again] == [(one.kind, one.detail) for one in first]


@pytest.mark.parametrize(("nearest", "built"), [(1.6, ["images"]), (1.4, ["images", "channels"])])
def test_slow_kinds_are_not_built_where_quick_ones_are_far_from_the_latency(nearest, built, monkeypatch):
    def build(_contest, _network, kind, _limit):
        return {"timing": json.dumps(asdict(timing(nearest))), "detail": f"too slow by {kind}"}

    monkeypatch.setattr("effxfer.stages.shrink.entries.build", build)
    each = network(2.0)
    each.name, each.number = "a", 0
    contest = SimpleNamespace(settings=each.settings, now=lambda: 0.0)
    entries = build_entries(contest, 0.5, [each], Work(None))
    assert [one.kind for one in entries if one.detail.startswith("too slow")] == built
    assert {one.detail for one in entries if one.kind not in built} <= {FAR_OFF}


def test_a_network_as_it_is_has_its_own_name():
    assert Entry(network="resnet18", kind="unchanged", timing=None, detail="").name == "resnet18"
    assert Entry(network="resnet18", kind="images", timing=None, detail="").name == "resnet18, images"


def test_a_candidate_has_thresholds_before_its_training_as_it_may_ship_without():
    task, net, settings = several(), body(), tiny.settings_of("shrink")
    new_head(net, task, 0)
    each = Network(
        name="net", number=0, net=net.eval(), is_trained=True, settings=settings, present=timing(1.0), as_float=None,
        shipping=Shipping(int8=False, settings=settings), full_side=16,
    )  # fmt: skip
    contest = Contest(
        dense=net, networks=[each], tasks=[task], settings=settings, strategy=Full(), teacher=None,
        time=lambda _net, _shipping: timing(0.5), device=CPU,
    )  # fmt: skip
    built = entry_of(build(contest, each, "exit", 0.9), "net", "exit").net()
    assert any(built.output.thresholds)
    assert f1(built, task.val) > 0.9
