"""Recipes compete: the better one wins, time is shared, nothing is trained twice."""

from types import SimpleNamespace

import pytest
import torch

from effxfer.data.settings import DataSettings
from effxfer.errors import SettingsError
from effxfer.settings import build
from effxfer.stages.settings.base import CONTINUAL
from effxfer.stages.settings.common import BOARD, Finetune
from effxfer.stages.settings.compete_settings import CANDIDATES, DOMAIN_CANDIDATES, WEIGHTINGS, Compete
from effxfer.stages.train import compete as module
from effxfer.stages.train.continual import stream_contest as streams
from effxfer.stages.train.finetune import adapt
from effxfer.train.settings import default_lr
from effxfer.transfer.strategies import make_strategy
from tests import tiny

HOPELESS = {"fit": {"lr": 1e-7, "head_lr": 1.0}}
FIT = {**tiny.FIT, "epochs": 9}


def board(made):
    (table,) = (table for table in made.manifest.report.tables if table.title == BOARD)
    return list(table.rows)


def test_the_recipe_that_learns_wins_and_is_trained_as_finetune_would(tmp_path, data):
    entered = {"asleep": HOPELESS, "full": {}, "half": {"fit": {"lr": 1e-6}}}
    made = tiny.stage("compete", tiny.BACKBONE, tmp_path / "made", data, candidates=entered, fit=FIT)
    whole = tiny.finetune(tmp_path / "whole", data, fit=FIT)
    ours, theirs = made.net().state_dict(), whole.net().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    rows = board(made)
    assert [row["place"] for row in rows] == [1, 2, 3]
    assert rows[0]["candidate"] == "full"
    assert [row["rounds"] for row in rows] == [2, 1, 1]
    assert [row["epochs"] for row in rows] == [9, 3, 3]
    assert rows[0]["accuracy val %"] == made.manifest.report["accuracy/val"].value
    assert any("3 candidates" in note for note in made.manifest.report.notes)


@pytest.mark.slow
def test_every_recipe_meets_every_network_and_the_faster_one_is_worth_something(tmp_path, data, monkeypatch):
    monkeypatch.setattr(module, "TIMING_SECONDS", 0.5)
    other = {"source": tiny.BACKBONE.source, "pretrained": False, "size": 32}
    told = {"candidates": {"asleep": HOPELESS}, "backbones": [other], "fit": {**tiny.FIT, "epochs": 1}}
    with pytest.raises(SettingsError, match="is already a candidate"):
        tiny.stage("compete", tiny.BACKBONE, tmp_path / "twice", data, **told)
    other |= {"source": "timm:test_resnet", "size": 96}
    made = tiny.stage("compete", tiny.BACKBONE, tmp_path / "made", data, latency_penalty=1000.0, **told)
    rows = board(made)
    assert {row["side px"] for row in rows} == {16, 96}
    assert rows[0]["network"] == "effxfer.net.cifar:resnet20"
    assert rows[0]["p50 ms"] < rows[1]["p50 ms"]


def test_goes_on_after_a_cut_and_trains_nothing_twice(tmp_path, dense, data, monkeypatch):
    labels = []
    monkeypatch.setattr(module, "adapt", tiny.cut_off(adapt, labels, 2))
    with pytest.raises(KeyboardInterrupt):
        tiny.stage("compete", dense, tmp_path / "cut", data)
    resumed = tiny.stage("compete", dense, tmp_path / "cut", data)
    assert labels[:3] == ["1: full", "1: probe", "1: probe"]
    assert len(labels) == 4
    whole = tiny.stage("compete", dense, tmp_path / "whole", data)
    ours, theirs = resumed.net().state_dict(), whole.net().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_candidate_that_diverges_is_out(tmp_path, data):
    entered = {"wild": {"fit": {"lr": 1e30}}, "full": {}}
    made = tiny.stage("compete", tiny.BACKBONE, tmp_path / "made", data, candidates=entered)
    last = board(made)[-1]
    assert (last["candidate"], last["accuracy val %"]) == ("wild", None)
    assert any(note.startswith("wild: training diverged") for note in made.manifest.report.notes)


def test_time_is_shared(tmp_path, dense, data, monkeypatch):
    """Equal time within a round, and eta times as much in the next."""
    given = []

    def watched(net, tasks, settings, **more):
        given.append(settings.seconds)
        return adapt(net, tasks, settings, **more)

    monkeypatch.setattr(module, "adapt", watched)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: 0.0))
    entered = {str(i): {} for i in range(4)}
    tiny.stage("compete", dense, tmp_path / "made", data, candidates=entered, eta=2, seconds=120.0)
    assert given[:4] == [pytest.approx(120 * (1 / 4) / (4 / 4 + 2 / 2 + 1) / (1 - i / 12), rel=0.02) for i in range(4)]
    assert given[-1] == pytest.approx(120, rel=0.02), "no time has passed, so the last training has all of it"


def test_candidates_that_there_is_no_time_for_are_named(tmp_path, dense, data, monkeypatch):
    """Each training takes ten seconds, however little it was given."""
    clock = SimpleNamespace(now=0.0)

    def slow(*args, **more):
        clock.now += 10
        return adapt(*args, **more)

    monkeypatch.setattr(module, "adapt", slow)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    entered = {str(i): {} for i in range(5)}
    made = tiny.stage("compete", dense, tmp_path / "made", data, candidates=entered, eta=2, seconds=30.0)
    assert clock.now == 20, "one in the first round, and the last training"
    assert [row["candidate"] for row in board(made)] == ["0"]
    assert any(note.startswith("not tried") and note.endswith(": 1, 2, 3, 4") for note in made.manifest.report.notes)


def test_its_default_candidates_are_recipes():
    recipes = build(Compete, {"options": {"augment": {"flip": False}}}, "compete").recipes()
    assert recipes.keys() == CANDIDATES.keys()
    assert recipes["probe, then full"].strategy == "lp_ft"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seconds": 3}, "same for all"),
        ({"fit": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"strategie": "full"}, "did you mean 'strategy'"),
    ],
)
def test_what_a_candidate_may_not_change_is_told(changes, text):
    with pytest.raises(SettingsError, match=text):
        build(Compete, {"candidates": {"one": changes}}, "compete")


def test_a_strategy_that_does_not_exist_is_told(tmp_path, dense, data):
    with pytest.raises(SettingsError, match=r"candidate 'one': no strategy 'ful'.*'full'"):
        tiny.stage("compete", dense, tmp_path / "made", data, candidates={"one": {"strategy": "ful"}})


def test_candidates_of_texts_have_rates_of_texts_and_those_of_images_stay():
    images = build(Compete, {}, "compete").for_input("image")
    assert (images.candidates, images.fit.lr) == (CANDIDATES, 1e-3)
    texts = build(Compete, {}, "compete").for_input("text")
    rates = {name: recipe.fit.lr for name, recipe in texts.recipes().items()}
    assert rates["full"] == texts.fit.lr == default_lr("text", "full")
    assert rates["probe"] == default_lr("text", "probe")
    assert rates["a third of the rate"] == pytest.approx(0.3 * rates["full"])
    given = build(Compete, {"fit": {"lr": 0.5}, "candidates": {"probe": {"strategy": "probe"}}}, "compete")
    assert given.for_input("text") == given


def test_a_target_domain_lets_adaptations_compete_by_what_needs_no_label_of_it(tmp_path, data):
    target = tiny.write_images(tmp_path / "other", per_class=10, seed=8)
    both = build(DataSettings, {**data.plain(), "target": {"source": str(target)}}, "data")
    chosen = {name: DOMAIN_CANDIDATES[name] for name in ("source only", "adabn")}
    settings = {"candidates": chosen, "validator": "entropy", "options": tiny.PLAIN, "fit": {**tiny.FIT, "epochs": 3}}
    made = tiny.stage("compete", tiny.BACKBONE, tmp_path / "made", both, **settings)
    rows = board(made)
    assert {row["candidate"] for row in rows} == set(chosen)
    assert all(row["entropy"] <= 0 for row in rows)
    assert all(0 <= row["target %"] <= 100 for row in rows)
    assert any("for the report only" in note for note in made.manifest.report.notes)


def test_the_choice_is_not_below_source_only_by_its_validator(tmp_path, data, monkeypatch):
    target = tiny.write_images(tmp_path / "other", per_class=10, seed=8)
    both = build(DataSettings, {**data.plain(), "target": {"source": str(target)}}, "data")
    settings = {
        "candidates": {name: DOMAIN_CANDIDATES[name] for name in ("adabn", "source only")}, "validator": "entropy",
        "options": tiny.PLAIN, "fit": {**tiny.FIT, "epochs": 3},
    }  # fmt: skip
    scores = iter([-0.1, -0.2, -0.5, -0.3])  # adabn leads the round, and is behind after full training

    def score(*_):
        return {"val": 50.0, "judged": next(scores), "target": 40.0}

    monkeypatch.setattr("effxfer.stages.train.compete.scores_of", score)
    made = tiny.stage("compete", tiny.BACKBONE, tmp_path / "made", both, **settings)
    expected = "source only was chosen, by 'entropy' after full training: adabn -0.500, source only -0.300"
    assert any(note.startswith(expected) for note in made.manifest.report.notes)
    assert [row["candidate"] for row in board(made)] == ["source only", "adabn"]
    assert all(row["rounds"] == 2 for row in board(made))


def test_default_candidates_follow_the_data():
    plain = build(Compete, {}, "compete")
    assert plain.for_data("image", "single", "", 50) == plain
    assert plain.for_data("image", "single", "new classes", 50) == plain
    domain = plain.for_data("image", "single", "domain", 50)
    assert domain.candidates.keys() == DOMAIN_CANDIDATES.keys()
    assert domain.validator == "information"
    assert {recipe.options["validator"] for recipe in domain.workable_recipes().values()} == {"information"}
    assert {recipe.strategy for recipe in plain.for_data("text", "single", "", 8).workable_recipes().values()} >= {
        "setfit"
    }
    assert {recipe.strategy for recipe in plain.for_data("image", "single", "", 8).workable_recipes().values()} >= {
        "simpleshot"
    }
    named = build(Compete, {"candidates": {"full": {}}}, "compete")
    assert named.for_data("image", "single", "domain", 5) == named, "what is named stays"
    assert plain.for_data("image", "multi", "domain", 5) == plain


@pytest.mark.parametrize("labels", ["single", "multi", "value", "tags", "span"])
def test_candidates_for_texts_learn_the_kind_of_label_and_differ(labels):
    chosen = build(Compete, {}, "compete").for_data("text", labels, "", 50).for_input("text")
    recipes = chosen.workable_recipes()
    strategies = [make_strategy(recipe.strategy, recipe.options) for recipe in recipes.values()]
    assert all(labels in strategy.takes for strategy in strategies)
    assert len({recipe.model_dump_json() for recipe in recipes.values()}) == len(recipes)
    assert recipes["a third of the rate"].fit.lr == pytest.approx(0.3 * default_lr("text", "full"))
    assert "frozen statistics" not in recipes, "an encoder has none"


def test_tasks_that_share_a_network_compete_by_all_weightings():
    from effxfer.transfer.multi_task.weightings.weighting_registry import WEIGHTINGS as ALL

    chosen = build(Compete, {}, "compete").for_data("image", "tasks", "", 0)
    assert sorted(WEIGHTINGS) == list(ALL)
    assert {recipe.options["weighting"] for recipe in chosen.workable_recipes().values()} == set(ALL)


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Two tasks of classes of their own."""
    folder = tmp_path_factory.mktemp("stream")
    for task, names in (("first", ("blue", "green")), ("second", ("red",))):
        images = tiny.write_images(folder / f"all-{task}", seed=len(names))
        for name in names:
            (folder / task).mkdir(exist_ok=True)
            (images / name).rename(folder / task / name)
    return [tiny.data_of(folder / task) for task in ("first", "second")]


IN_TIME = {"fit": {**tiny.FIT, "epochs": 3}, "options": {**tiny.PLAIN, "memory": 6, "holdout": 4}}


@pytest.mark.slow
def test_strategies_in_time_compete_by_all_tasks_with_both_controls(tmp_path, stream, monkeypatch):
    labels, entered = [], {"replay": {"strategy": "replay"}, "weights": {"strategy": "ewc"}}
    monkeypatch.setattr(streams, "adapt", tiny.cut_off(adapt, labels, 3))
    with pytest.raises(KeyboardInterrupt):
        tiny.stage("compete", tiny.BACKBONE, tmp_path / "out", stream, candidates=entered, **IN_TIME)
    made = tiny.stage("compete", tiny.BACKBONE, tmp_path / "out", stream, candidates=entered, **IN_TIME)
    assert labels[:4] == ["1: naive, first", "1: naive, second", "1: nearest mean, first", "1: nearest mean, first"]
    rows = board(made)
    assert {row["candidate"] for row in rows} == {"naive", "nearest mean", "replay", "weights"}
    for row in rows:
        assert row["accuracy val %"] == pytest.approx((row["first val %"] + row["second val %"]) / 2)
    assert any(f"{rows[0]['candidate']} was chosen" in note for note in made.manifest.report.notes)
    assert "forgetting/test" in {row.name for row in made.manifest.report.rows}
    best = {row["candidate"]: row for row in rows}
    strategy = best[rows[0]["candidate"]]["strategy"]
    alone = tiny.stage("continual", tiny.BACKBONE, tmp_path / "alone", stream, controls="none", strategy=strategy,
                       options={name: value for name, value in IN_TIME["options"].items() if name != "memory" or
                                strategy == "replay"}, fit=IN_TIME["fit"])  # fmt: skip
    ours, theirs = made.net().state_dict(), alone.net().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_recipes_in_time_and_others_do_not_mix_and_all_compete_if_none_is_named(tmp_path, stream):
    every = build(Compete, {"strategy": "replay"}, "compete").for_data("image", "single", "", 100)
    assert {one["strategy"] for one in every.candidates.values()} == set(CONTINUAL)
    with pytest.raises(SettingsError, match="'probe' does not learn tasks in time"):
        build(Compete, {"candidates": {"a": {"strategy": "si"}, "probe": {"strategy": "probe"}}}, "compete")
    with pytest.raises(SettingsError, match="no seconds"):
        build(Compete, {"strategy": "si", "seconds": 10}, "compete")
    options = {**tiny.PLAIN, "memory": 6}
    learned = tiny.stage("continual", tiny.BACKBONE, tmp_path / "net", stream[0], controls="none", options=options,
                         fit={**tiny.FIT, "epochs": 1})  # fmt: skip
    with pytest.raises(SettingsError, match="compete from a network without a memory, this one has that of 'replay'"):
        tiny.stage("compete", learned, tmp_path / "out", stream, strategy="replay", candidates={"a": {}}, **IN_TIME)


def test_beside_a_formula_the_best_method_that_trains_is_trained_in_full():
    names = {"nearest mean": "nearest_mean", "icarl": "icarl", "replay": "replay"}
    entered = [
        SimpleNamespace(name=name, recipe=build(Finetune, {"strategy": strategy}, "finetune"))
        for name, strategy in names.items()
    ]
    board = {"nearest mean": (2, 60.0), "icarl": (2, 59.0), "replay": (1, 70.0)}
    board = {name: {"round": number, "judged": value} for name, (number, value) in board.items()}
    assert module.find_rival(entered, entered[0], board, "source").name == "icarl"
    assert module.find_rival(entered, entered[1], board, "source") is None
