import subprocess
import sys

import optuna
import pytest

from effxfer.errors import ModelFileError
from effxfer.search import journal as module
from effxfer.search.journal import cut_torn_tail
from effxfer.search.places import JOURNAL, own
from effxfer.search.storage import load_study, open_study, revive


@pytest.fixture(autouse=True)
def _silent():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def add(study, value):
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    study.tell(trial, value)


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


def test_a_leftover_lock_of_a_killed_process_does_not_stall(tmp_path):
    open_study(own(tmp_path), {})
    holder = (
        "import sys, time; from pathlib import Path; from effxfer.search.journal import KernelLock;"
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


def test_only_what_must_last_waits_for_the_disk(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(module.os, "fsync", lambda file: waits.append((tmp_path / JOURNAL).stat().st_size))
    study = open_study(own(tmp_path), {})
    assert len(waits) == 2  # the study, and its facts
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.report(0.1, 1)
    assert len(waits) == 2
    study.tell(trial, 0.5)
    assert waits[-1] == (tmp_path / JOURNAL).stat().st_size
    assert len(waits) == 3
    assert load_study(own(tmp_path)).trials[0].value == 0.5
