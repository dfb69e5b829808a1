"""A time limit is kept by a clock that is passed in; trainings and builds are invented."""

from types import SimpleNamespace

import pytest

from effxfer.stages.shrink import trials
from effxfer.stages.shrink.entries import Entry
from effxfer.stages.shrink.trials import contest_at, entrants, run_contest, unreachable
from effxfer.train.state import Work
from tests import tiny
from tests.stages.shrink.test_contest import timing

BUILDING, SCORING, LEAST_EPOCH = 20.0, 8.0, 2.0


@pytest.fixture
def clock(monkeypatch):
    """A contest whose builds, trainings and scorings take seconds of an invented clock."""
    at = [1000.0]

    def build_entries(_contest, _limit, networks, _work, due):
        entries = []
        for number, name in enumerate(networks):
            if due is None or at[0] <= due or not entries:
                at[0] += BUILDING
                at[0] += SCORING
                before = {"val": 50.0 - number, "scoring": SCORING}
                each = Entry(network=name, kind="images", timing=timing(0.4), detail="", state={}, before=before)
                entries.append(each)
        return entries

    def train_entry(_contest, entry, epochs, seconds, _work, _label, **_):
        # As `fit`: all epochs, or as many steps as fit into the time, one step at least.
        spent = epochs * 60.0 if seconds is None else max(seconds, LEAST_EPOCH)
        at[0] += spent + SCORING
        row = {"epochs": epochs, "val": entry.before["val"], "float": 50.0, "ships": "float32", "state": {}}
        return {**row, "scoring": SCORING, "seconds": spent + SCORING}

    monkeypatch.setattr(trials, "build_entries", build_entries)
    monkeypatch.setattr(trials, "train_entry", train_entry)
    settings = tiny.settings_of("shrink", fit={**tiny.FIT, "epochs": 9})
    return at, SimpleNamespace(settings=settings, now=lambda: at[0])


@pytest.mark.parametrize("count", [1, 3, 10, 30])
@pytest.mark.parametrize("seconds", [600.0, 3600.0])
def test_a_budget_is_kept_within_a_tenth(clock, count, seconds):
    at, contest = clock
    began = at[0]
    networks = [str(number) for number in range(count)]
    outcome = contest_at(contest, 0.5, networks, Work(None), seconds=seconds, began=began)
    assert outcome.winner.network == "0"
    assert 0.9 * seconds <= at[0] - began <= 1.1 * seconds
    assert len(outcome.entries) <= 1 + 0.3 * seconds / BUILDING + 1


def test_without_a_budget_trainings_have_their_epochs(clock):
    at, contest = clock
    outcome = contest_at(contest, 0.5, ["0", "1", "2"], Work(None), seconds=None, began=at[0])
    assert [[row["epochs"] for row in runs] for runs in outcome.board.values()] == [[3, 9], [3], [3]]


def candidate(name, epoch_seconds, state="net", val=50.0):
    return Entry(
        network=name, kind="images", timing=None, detail="", state=state and {"net": state},
        epoch_seconds=epoch_seconds - 10.0, before={"scoring": 10.0, "val": val},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "count"),
    [
        # Of n candidates each has in the first round: 9: 1/27 of the time, 4: 1/19, 3: 1/6, 2: 1/5.
        (None, 9),
        (3700.0, 9),
        (1950.0, 4),
        (610.0, 3),
        (590.0, 2),
        (1.0, 2),
    ],
)
def test_as_many_enter_as_get_an_epoch(seconds, count):
    entries = [*(candidate(str(number), 100.0) for number in range(9)), candidate("refused", 0.0, state=None)]
    assert [entry.network for entry in entrants(entries, 3, seconds)] == [str(number) for number in range(count)]


def test_after_a_cut_those_that_had_entered_go_on_although_there_is_more_time(clock, monkeypatch, tmp_path):
    at, contest = clock
    entries = [candidate(str(number), 100.0, val=50.0 - number) for number in range(9)]
    labels = []
    monkeypatch.setattr(trials, "train_entry", cut_at(trials.train_entry, labels, 2))
    with pytest.raises(KeyboardInterrupt):
        run_contest(contest, entries, Work(tmp_path), seconds=1950.0, began=at[0] - 1400.0)
    outcome = run_contest(contest, entries, Work(tmp_path), seconds=1950.0, began=at[0])
    assert list(outcome.board) == ["0, images", "1, images"], "2 of 9 enter after 1,400 seconds of building, 4 without"
    assert len(labels) == 4, "the first training is not repeated"
    assert sum(row["seconds"] for runs in outcome.board.values() for row in runs) == pytest.approx(550.0, rel=0.1)


def cut_at(train_entry, labels, at):
    def stopped(*args, **more):
        labels.append(args[5])
        if len(labels) == at:
            raise KeyboardInterrupt
        return train_entry(*args, **more)

    return stopped


def test_a_single_candidate_enters_in_any_time():
    assert len(entrants([candidate("a", 100.0)], 3, 1.0)) == 1


@pytest.mark.parametrize(
    ("latency_ms", "request_", "cure"),
    [(None, "0.01 x", "latency_ratio = 0.105"), (1e-4, "0.0001 ms", "latency_ms = 0.105")],
)
def test_a_latency_that_nothing_reaches_is_named_in_its_own_unit(latency_ms, request_, cure):
    entries = [Entry(network="net", kind="images", timing=timing(ratio), detail="") for ratio in (0.3, 0.1025)]
    error = unreachable(latency_ms, 0.01, entries)
    assert f"a latency of {request_}: the nearest is net, images with 0.102 x (0.102 ms)" in error.problem
    assert error.hint.startswith(f"ask for {cure}, ")
