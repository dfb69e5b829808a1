import threading
from collections import Counter

import optuna
import pytest

from effxfer.search.space import SearchSettings, baseline, tap_choices
from effxfer.search.storage.backends import own_journal
from effxfer.search.storage.trials import counts, load_study, open_study, requeue_stale
from effxfer.search.workers import worker as work_module
from effxfer.search.workers.sampling import make_pruner
from effxfer.search.workers.worker import Search, StoppedError, next_trial, run_trials, trial_seed
from tests.search.tasks import blobs, features_of, table


@pytest.fixture(autouse=True)
def _silent():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def search(folder, **settings):
    chosen = SearchSettings(**({"trials": 12, "epochs": 3, "folds": 1, "startup": 4, "pools": ("mean",)} | settings))
    return Search(
        features=features_of(table(blobs, n=120, n_val=60), 3), settings=chosen,
        choices=tap_choices(chosen, ["early", "out"]), seed=0, folder=folder,
    )  # fmt: skip


def params(study):
    return [t.params for t in study.trials if t.state.name in {"COMPLETE", "PRUNED"}]


def test_a_seed_is_that_of_the_parameters_whatever_their_order():
    assert trial_seed(0, {"a": 1, "b": 2}) == trial_seed(0, {"b": 2, "a": 1}) != trial_seed(1, {"a": 1, "b": 2})


def test_the_budget_is_a_total_and_a_split_run_equals_a_whole_one(tmp_path):
    whole = search(tmp_path / "whole")
    study = open_study(own_journal(whole.folder), {})
    run_trials(study, whole)
    assert len(params(study)) == 12
    run_trials(study, whole)
    assert len(study.trials) == 12

    for budget in (3, 4, 9, 12):
        part = search(tmp_path / "parts", trials=budget)
        run_trials(open_study(own_journal(part.folder), {}), part)
    assert params(load_study(own_journal(tmp_path / "parts"))) == params(study)


def test_an_interrupted_trial_is_queued_again_and_the_search_ends_as_without(tmp_path, monkeypatch):
    whole = search(tmp_path / "whole")
    run_trials(open_study(own_journal(whole.folder), {}), whole)

    cut = search(tmp_path / "cut")
    original, calls = work_module.judge, []

    def interrupted(*arguments, **named):
        calls.append(1)
        if len(calls) in (3, 7):
            raise KeyboardInterrupt
        return original(*arguments, **named)

    monkeypatch.setattr(work_module, "judge", interrupted)
    for lost_before in (0, 1):
        study = open_study(own_journal(cut.folder), {})
        assert requeue_stale(study, cut.backend) == lost_before
        with pytest.raises(KeyboardInterrupt):
            run_trials(study, cut)
    study = open_study(own_journal(cut.folder), {})
    assert requeue_stale(study, cut.backend) == 1
    run_trials(study, cut)
    found = counts(study.trials)
    assert (found["complete"] + found["pruned"], found["lost"], found["running"]) == (12, 2, 0)
    assert sorted(map(str, params(study))) == sorted(map(str, params(load_study(own_journal(whole.folder)))))


@pytest.mark.parametrize("after", [1, 2, 3])
def test_what_a_lost_trial_reported_is_not_held_against_others(tmp_path, monkeypatch, after):
    whole = search(tmp_path / "whole", trials=20, epochs=9)
    run_trials(open_study(own_journal(whole.folder), {}), whole)
    cut = search(tmp_path / "cut", trials=20, epochs=9)
    original, calls = work_module.judge, []

    def interrupted(*arguments, report, **named):
        def reports(epoch, value):
            report(epoch, value)
            calls.append(1)
            if len(calls) in (after, after + 4, after + 8):
                raise KeyboardInterrupt

        return original(*arguments, report=reports, **named)

    monkeypatch.setattr(work_module, "judge", interrupted)
    for _ in range(3):
        study = open_study(own_journal(cut.folder), {})
        requeue_stale(study, cut.backend)
        with pytest.raises(KeyboardInterrupt):
            run_trials(study, cut)
    study = open_study(own_journal(cut.folder), {})
    requeue_stale(study, cut.backend)
    run_trials(study, cut)
    states = [
        {str(t.params): t.state.name for t in s.trials if t.state.name != "FAIL"}
        for s in (study, load_study(own_journal(whole.folder)))
    ]
    assert states[0] == states[1]
    assert counts(study.trials)["lost"] == 3


def test_a_repeated_head_is_refused_and_does_not_count(tmp_path):
    job = search(tmp_path, trials=5)
    study = open_study(own_journal(tmp_path), {})
    for _ in range(3):
        study.enqueue_trial(baseline(job.choices))
    run_trials(study, job)
    found = counts(study.trials)
    assert (found["refused"], found["complete"] + found["pruned"]) == (2, 5)
    assert max(Counter(map(str, params(study))).values()) == 1


def test_heads_above_the_limit_are_refused(tmp_path):
    job = search(tmp_path, trials=8, max_parameters=60)
    study = open_study(own_journal(tmp_path), {})
    run_trials(study, job)
    assert len(params(study)) == 8
    assert {t.user_attrs["refused"] for t in study.trials if "refused" in t.user_attrs} == {"too large"}
    assert not [p for p in params(study) if p["kind"] == "mlp" and p["mlp_log2_width"] > 4]


def test_claims_from_many_threads_never_exceed_the_budget(tmp_path):
    job = search(tmp_path, trials=9)
    open_study(own_journal(tmp_path), {})
    claimed = []

    def take():
        study = load_study(own_journal(tmp_path))
        while got := next_trial(study, job, job.backend):
            claimed.append(str(got[0].params))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 9


def test_out_of_memory_and_divergence_stop_a_trial_and_not_the_search(tmp_path, monkeypatch):
    original, calls = work_module.judge, []

    def fails(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError
        if len(calls) == 3:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")
        if len(calls) == 4:
            raise work_module.DivergedError("loss nan")
        return original(*arguments, **named)

    monkeypatch.setattr(work_module, "judge", fails)
    study = open_study(own_journal(tmp_path), {})
    run_trials(study, search(tmp_path, trials=6))
    stopped = [
        t.user_attrs["stopped"] for t in study.trials if t.user_attrs.get("stopped") not in (None, "TrialPruned")
    ]
    assert stopped == ["MemoryError", "MemoryError", "DivergedError"]
    assert len(params(study)) == 6


def test_a_stopped_search_releases_its_trial(tmp_path, monkeypatch):
    job = search(tmp_path)
    study = open_study(own_journal(tmp_path), {})

    def stop(*_arguments, **_named):
        raise StoppedError

    monkeypatch.setattr(work_module, "judge", stop)
    run_trials(study, job)
    assert counts(study.trials)["lost"] == 1
    assert requeue_stale(study, job.backend) == 1


def test_other_errors_are_not_swallowed(tmp_path, monkeypatch):
    def broken(*_arguments, **_named):
        raise RuntimeError("bug")

    monkeypatch.setattr(work_module, "judge", broken)
    with pytest.raises(RuntimeError, match="bug"):
        run_trials(open_study(own_journal(tmp_path), {}), search(tmp_path))


def test_the_pruner_stops_bad_trials_but_never_the_plain_linear_head(tmp_path, monkeypatch):
    job = search(tmp_path, epochs=9, trials=20)
    study = open_study(own_journal(tmp_path), {})
    study.enqueue_trial(baseline(job.choices))
    calls = []

    def scripted(*_arguments, report, **_named):
        calls.append(1)
        value = 0.0 if len(calls) == 1 else 1.0 / len(calls)
        for epoch in (1, 3, 9):
            report(epoch, value)
        return value

    monkeypatch.setattr(work_module, "judge", scripted)
    run_trials(study, job)
    assert study.trials[0].state.name == "COMPLETE"
    assert counts(study.trials)["pruned"] > 5


@pytest.mark.parametrize("pruner", ["asha", "median", "none"])
def test_every_pruner_works(tmp_path, pruner):
    job = search(tmp_path, pruner=pruner, trials=10)
    study = open_study(own_journal(tmp_path), {})
    run_trials(study, job)
    assert len(params(study)) == 10
    assert pruner != "none" or counts(study.trials)["pruned"] == 0
    assert make_pruner(job.settings)
