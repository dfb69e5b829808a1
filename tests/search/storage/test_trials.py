import json
import subprocess
import sys

import optuna
import pytest
from optuna.trial import TrialState

from effxfer.errors import ModelFileError
from effxfer.search.storage.backends import own_journal
from effxfer.search.storage.trials import (
    MAX_RETRIES,
    ask,
    counts,
    is_alive,
    open_study,
    original_number,
    owner,
    requeue_stale,
)


@pytest.fixture(autouse=True)
def _silent():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def add(study, value, who=None):
    trial = study.ask()
    if who:
        trial.set_user_attr("owner", who)
    trial.suggest_float("x", 0, 1)
    trial.set_user_attr("accepted", True)
    if value is not None:
        study.tell(trial, value)
    return trial


def dead_owner(folder):
    """Who a process was that held its lock until it was killed."""
    code = (
        "import json, sys; from pathlib import Path; from effxfer.search.storage.backends import own_journal;"
        "from effxfer.search.storage.trials import owner;"
        "print(json.dumps(owner(own_journal(Path(sys.argv[1])))), flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    who = json.loads(process.stdout.readline())
    assert is_alive(own_journal(folder), who)
    process.kill()
    process.communicate()
    return who


def test_another_search_in_the_folder_is_refused(tmp_path):
    open_study(own_journal(tmp_path), {"seed": 1, "features": "ab"})
    open_study(own_journal(tmp_path), {"seed": 1, "features": "ab"})
    with pytest.raises(ModelFileError, match="differs in features, seed"):
        open_study(own_journal(tmp_path), {"seed": 2, "features": "cd"})


def test_this_process_is_alive_others_are_told_apart(tmp_path):
    place = own_journal(tmp_path)
    me = json.loads(json.dumps(owner(place)))
    assert is_alive(place, me)
    assert me == owner(own_journal(tmp_path))
    assert not is_alive(place, None)
    assert not is_alive(place, me | {"lock": "never"})
    assert not is_alive(place, dead_owner(tmp_path))


def test_trials_of_dead_workers_are_failed_and_queued_again_once(tmp_path):
    study = open_study(own_journal(tmp_path), {})
    done = add(study, 0.5)
    lost = add(study, None, who=dead_owner(tmp_path))
    mine = add(study, None, who=owner(own_journal(tmp_path)))
    assert counts(study.trials, own_journal(tmp_path))["running"] == 1
    assert requeue_stale(study, own_journal(tmp_path)) == 1
    assert requeue_stale(study, own_journal(tmp_path)) == 0
    states = [t.state for t in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]
    again = study.ask()
    assert again.suggest_float("x", 0, 1) == lost.params["x"] != mine.params["x"] != done.params["x"]
    assert again.user_attrs == {"accepted": True}
    assert study.trials[again.number].system_attrs["retry_history"] == [lost.number]
    assert original_number(study.trials[again.number]) == lost.number


def test_a_trial_that_kills_its_worker_is_given_up(tmp_path):
    study = open_study(own_journal(tmp_path), {})
    add(study, None, who=dead_owner(tmp_path))
    for _ in range(MAX_RETRIES):
        assert requeue_stale(study, own_journal(tmp_path)) == 1
        trial = study.ask()
        trial.set_user_attr("owner", dead_owner(tmp_path))
    assert requeue_stale(study, own_journal(tmp_path)) == 0
    assert counts(study.trials, own_journal(tmp_path)) == {
        "complete": 0,
        "pruned": 0,
        "running": 0,
        "refused": 0,
        "lost": MAX_RETRIES + 1,
    }


def test_a_trial_cut_off_while_it_was_drawn_is_drawn_anew(tmp_path):
    study = open_study(own_journal(tmp_path), {})
    study.enqueue_trial({"x": 0.25, "y": 0.5})
    for _ in range(2):
        trial = study.ask()
        trial.set_user_attr("owner", dead_owner(tmp_path))
        trial.suggest_float("x", 0, 1)
    assert requeue_stale(study, own_journal(tmp_path)) == 1
    assert study.trials[-1].system_attrs["fixed_params"] == {"x": 0.25, "y": 0.5}


def test_refused_and_unstarted_trials_are_not_queued_again(tmp_path):
    study = open_study(own_journal(tmp_path), {})
    refused = add(study, None)
    refused.set_user_attr("refused", "repeated")
    study.tell(refused, state=TrialState.FAIL)
    study.ask()
    assert requeue_stale(study, own_journal(tmp_path)) == 0
    assert counts(study.trials, own_journal(tmp_path)) == {
        "complete": 0,
        "pruned": 0,
        "running": 0,
        "refused": 1,
        "lost": 1,
    }


def test_a_lost_trial_that_is_queued_again_keeps_its_turn(tmp_path):
    study = open_study(own_journal(tmp_path), {})
    for x in (0.1, 0.2, 0.3):
        study.enqueue_trial({"x": x})
    for _ in range(2):
        lost = ask(study)
        assert lost.suggest_float("x", 0, 1) == 0.1
        study.tell(lost, state=TrialState.FAIL)
        requeue_stale(study, own_journal(tmp_path))
    assert [ask(study).suggest_float("x", 0, 1) for _ in range(3)] == [0.1, 0.2, 0.3]
    assert ask(study).number == 5
