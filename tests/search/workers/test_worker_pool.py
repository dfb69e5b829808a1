import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest

from effxfer.search.storage.backends import Journal
from effxfer.search.storage.trials import counts, is_lost

ROOT = Path(__file__).parents[2]


def trials_in(journal):
    """The trials of the only study, once there is one."""
    if not journal.file.exists():
        return []
    storage = journal.open()
    return [trial for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id)]


def finished(trials):
    return [t for t in trials if t.state.name in {"COMPLETE", "PRUNED"}]


def parameters(trials):
    return Counter(str(sorted(t.params.items())) for t in trials)


def kill_worker(trials, parent):
    """Kill a worker in the middle of a trial; false if none is seen at work."""
    owners = {t.user_attrs["owner"]["pid"] for t in trials if t.state.name == "RUNNING" and "owner" in t.user_attrs}
    for pid in owners - {parent}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        return True
    return False


@pytest.mark.parametrize(
    ("trials", "workers", "kills"), [(24, 2, 1), pytest.param(800, 4, 6, marks=pytest.mark.slow)]
)  # fmt: skip
def test_no_trial_is_lost_or_repeated_when_workers_are_killed(tmp_path, trials, workers, kills):
    journal = Journal(tmp_path / "trials", shared=True)
    arguments = [str(tmp_path / "search"), str(trials), str(workers), f"journal:{journal.file}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.search.shared", *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    killed = 0
    while process.poll() is None:
        seen = trials_in(journal)
        if killed < kills and len(finished(seen)) >= trials * (killed + 1) // (kills + 2):
            killed += kill_worker(seen, process.pid)
        time.sleep(0.02)
    message = process.communicate()[1].decode()
    assert process.returncode == 0, message
    every = trials_in(journal)
    assert killed == kills
    assert len(finished(every)) == trials
    assert set(parameters(finished(every)).values()) == {1}
    interrupted = [t for t in every if is_lost(t) and "accepted" in t.user_attrs]
    assert parameters(interrupted).keys() <= parameters(finished(every)).keys()
    assert counts(every)["lost"] <= 2 * kills
    assert counts(every, journal)["running"] == 0


@pytest.fixture(autouse=True)
def _silent():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
