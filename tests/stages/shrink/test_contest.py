from dataclasses import replace
from types import SimpleNamespace

import pytest

from effxfer.errors import ModelFileError, SettingsError
from effxfer.prune.channels.latency_loop import PairedTiming
from effxfer.stages.shrink.contest import FEW_IMAGES, Contest, choose_precision, open_backbones, time_precisions
from effxfer.transfer.strategies import make_strategy
from tests import tiny
from tests.net.text.folders import write_folder
from tests.transfer.tasks import body


def timing(ratio, spread=0.02):
    return PairedTiming(ratio=ratio, low=ratio - spread, high=ratio + spread, ms=ratio, dense_ms=1.0, n=3)


@pytest.mark.parametrize(
    ("int8", "float32", "ships", "text"),
    [
        (timing(0.4), timing(1.0), True, "int8 ships: its int8 file takes 0.400 of its float32 p50 [0.380, 0.420]"),
        (
            replace(timing(0.4), n=1),
            timing(1.0),
            True,
            "int8 ships: its int8 file takes 0.400 of its float32 p50 (timed once)",
        ),
        (timing(0.2), timing(0.25), True, "int8 ships: its int8 file takes 0.800"),
        (timing(0.24), timing(0.25), False, "float32 ships: its int8 file takes 0.960"),
        (None, timing(1.0), False, "float32 ships: no operator"),
        (timing(0.4), None, True, ""),
    ],
)
def test_a_network_ships_the_precision_that_is_faster_beyond_the_noise(int8, float32, ships, text):
    chosen, note = choose_precision(int8, float32, "" if int8 else "no operator")
    assert chosen == ships
    assert note.startswith(text)
    assert bool(note) == bool(text)


@pytest.mark.parametrize(
    ("precision", "timed"), [("auto", {"int8", "float32"}), ("int8", {"int8"}), ("float32", {"float32"})]
)
def test_only_what_may_ship_is_timed(precision, timed):
    settings = tiny.settings_of("shrink", precision=precision)
    timings = time_precisions(None, settings, lambda _net, shipping: timing(0.5 if shipping.int8 else 1.0))
    assert timings.keys() == timed


def test_a_network_without_an_int8_file_ships_float32_unless_int8_was_asked_for():
    def time(_net, shipping):
        if shipping.int8:
            raise ModelFileError("no operator")
        return timing(1.0)

    assert time_precisions(None, tiny.settings_of("shrink", precision="auto"), time)["problem"] == "no operator"
    with pytest.raises(ModelFileError, match="no operator"):
        time_precisions(None, tiny.settings_of("shrink", precision="int8"), time)


@pytest.mark.parametrize(
    ("network", "images", "options", "strategy", "mode"),
    [
        ("foreign", FEW_IMAGES - 1, {}, "full", "frozen"),
        ("foreign", FEW_IMAGES, {}, "full", "train"),
        ("foreign", 10, {"batchnorm": "train"}, "full", "train"),
        ("foreign", 10, {}, "lora", "train"),
        ("trained", 10, {}, "full", "train"),
    ],
)
def test_a_body_that_never_saw_the_task_keeps_its_statistics_where_images_are_few(
    network, images, options, strategy, mode
):  # fmt: skip
    networks = [SimpleNamespace(name=name, is_trained=name == "trained") for name in ("trained", "foreign")]
    contest = Contest(
        dense=None, networks=networks, tasks=[SimpleNamespace(train=range(images))],
        settings=tiny.settings_of("shrink", options=options), strategy=make_strategy(strategy, options), teacher=None,
        time=None, device=None,
    )  # fmt: skip
    assert contest.strategy_for(network).batchnorm == mode


@pytest.mark.parametrize(("images", "steps"), [(6400, 10 + 4), (64 * 14, 14), (640, 10 + 4), (130, 3 + 3), (1, 1 + 1)])
def test_the_shortest_training_is_of_ten_steps_or_an_epoch_after_those_that_are_timed(images, steps):
    strategy = SimpleNamespace(batch=64)
    each = Contest(
        dense=None, networks=[], tasks=[SimpleNamespace(train=range(images))], settings=None, strategy=strategy,
        teacher=None, time=None, device=None,
    )  # fmt: skip
    in_epoch = -(-images // 64)
    assert each.least_seconds(60.0 * in_epoch) == pytest.approx(60.0 * steps)


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_backbone_of_texts_is_refused_beside_a_network_of_images(is_folder, tmp_path):
    pytest.importorskip("transformers")
    write_folder(tmp_path)
    source = f"hf:{tmp_path}" if is_folder else "text-small"
    settings = tiny.settings_of("shrink", backbones=[source])
    with pytest.raises(SettingsError, match=f"{source} takes texts, but the network takes images"):
        open_backbones(body(), settings)
