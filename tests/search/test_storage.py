import json
import subprocess
import sys

import optuna
import pytest
from optuna.trial import TrialState

from effxfer.errors import ModelFileError
from effxfer.search.places import JOURNAL, own
from effxfer.search.storage import (
    MAX_RETRIES,
    counts,
    cut_torn_tail,
    is_alive,
    load_study,
    open_study,
    owner,
    revive,
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
        "import json, sys; from pathlib import Path; from effxfer.search.places import own;"
        "from effxfer.search.storage import owner;"
        "print(json.dumps(owner(own(Path(sys.argv[1])))), flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    who = json.loads(process.stdout.readline())
    assert is_alive(own(folder), who)
    process.kill()
    process.communicate()
    return who


def test_a_torn_line_is_cut_kept_and_the_study_goes_on(tmp_path):
    study = open_study(own(tmp_path), {"a": 1})
    add(study, 0.5)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "worker_id": "tor')
    copy = cut_torn_tail(journal)
    assert copy.read_bytes() == b'{"op_code": 4, "worker_id": "tor'
    assert journal.read_bytes() == whole
    assert cut_torn_tail(journal) is None
    add(load_study(own(tmp_path)), 0.7)
    assert [t.value for t in load_study(own(tmp_path)).trials] == [0.5, 0.7]


def test_a_line_torn_while_others_work_is_cut_before_the_next_append(tmp_path):
    study = open_study(own(tmp_path), {})
    add(study, 0.1)
    with (tmp_path / JOURNAL).open("ab") as stream:
        stream.write(b'{"half')
    add(study, 0.2)
    assert [t.value for t in load_study(own(tmp_path)).trials] == [0.1, 0.2]
    assert len(list(tmp_path.glob("*.torn-*"))) == 1


def test_every_prefix_of_a_journal_opens(tmp_path):
    study = open_study(own(tmp_path), {})
    add(study, 0.1)
    add(study, 0.2)
    whole = (tmp_path / JOURNAL).read_bytes()
    end_of_study = whole.index(b"\n") + 1
    for cut in range(end_of_study, len(whole), 37):
        (tmp_path / JOURNAL).write_bytes(whole[:cut])
        open_study(own(tmp_path), {})
        revive(load_study(own(tmp_path)), own(tmp_path))


def test_an_absent_journal_has_no_torn_tail(tmp_path):
    assert cut_torn_tail(tmp_path / JOURNAL) is None


def test_damage_in_the_middle_is_named(tmp_path):
    add(open_study(own(tmp_path), {}), 0.1)
    lines = (tmp_path / JOURNAL).read_bytes().splitlines()
    lines[1] = b'{"op_co' + lines[1]
    (tmp_path / JOURNAL).write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(ModelFileError, match="damaged in line 2"):
        open_study(own(tmp_path), {})


def test_another_search_in_the_folder_is_refused(tmp_path):
    open_study(own(tmp_path), {"seed": 1, "features": "ab"})
    open_study(own(tmp_path), {"seed": 1, "features": "ab"})
    with pytest.raises(ModelFileError, match="differs in features, seed"):
        open_study(own(tmp_path), {"seed": 2, "features": "cd"})


def test_a_leftover_lock_of_a_killed_process_does_not_stall(tmp_path):
    open_study(own(tmp_path), {})
    holder = (
        "import sys, time; from pathlib import Path; from effxfer.search.storage import KernelLock;"
        "KernelLock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", holder, str(tmp_path / JOURNAL)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    process.kill()
    process.communicate()
    optuna_lock = tmp_path / f"{JOURNAL}.lock"
    optuna_lock.symlink_to(tmp_path / JOURNAL)
    add(load_study(own(tmp_path)), 0.3)
    assert load_study(own(tmp_path)).best_value == 0.3


def test_this_process_is_alive_others_are_told_apart(tmp_path):
    place = own(tmp_path)
    me = json.loads(json.dumps(owner(place)))
    assert is_alive(place, me)
    assert me == owner(own(tmp_path))
    assert not is_alive(place, None)
    assert not is_alive(place, me | {"lock": "never"})
    assert not is_alive(place, dead_owner(tmp_path))


def test_trials_of_dead_workers_are_failed_and_queued_again_once(tmp_path):
    study = open_study(own(tmp_path), {})
    done = add(study, 0.5)
    lost = add(study, None, who=dead_owner(tmp_path))
    mine = add(study, None, who=owner(own(tmp_path)))
    assert counts(study.trials, own(tmp_path))["running"] == 1
    assert revive(study, own(tmp_path)) == 1
    assert revive(study, own(tmp_path)) == 0
    states = [t.state for t in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING]
    again = study.ask()
    assert again.suggest_float("x", 0, 1) == lost.params["x"] != mine.params["x"] != done.params["x"]
    assert again.user_attrs == {"retry_of": lost.number, "retries": 1}


def test_a_trial_that_kills_its_worker_is_given_up(tmp_path):
    study = open_study(own(tmp_path), {})
    add(study, None, who=dead_owner(tmp_path))
    for _ in range(MAX_RETRIES):
        assert revive(study, own(tmp_path)) == 1
        trial = study.ask()
        trial.set_user_attr("owner", dead_owner(tmp_path))
    assert revive(study, own(tmp_path)) == 0
    assert counts(study.trials, own(tmp_path)) == {
        "complete": 0,
        "pruned": 0,
        "running": 0,
        "refused": 0,
        "lost": MAX_RETRIES + 1,
    }


def test_a_trial_cut_off_while_it_was_drawn_is_drawn_anew(tmp_path):
    study = open_study(own(tmp_path), {})
    study.enqueue_trial({"x": 0.25, "y": 0.5})
    for _ in range(2):
        trial = study.ask()
        trial.set_user_attr("owner", dead_owner(tmp_path))
        trial.suggest_float("x", 0, 1)
    assert revive(study, own(tmp_path)) == 1
    assert study.trials[-1].system_attrs["fixed_params"] == {"x": 0.25, "y": 0.5}


def test_refused_and_unstarted_trials_are_not_queued_again(tmp_path):
    study = open_study(own(tmp_path), {})
    refused = add(study, None)
    refused.set_user_attr("refused", "repeated")
    study.tell(refused, state=TrialState.FAIL)
    study.ask()
    assert revive(study, own(tmp_path)) == 0
    assert counts(study.trials, own(tmp_path)) == {"complete": 0, "pruned": 0, "running": 0, "refused": 1, "lost": 1}
