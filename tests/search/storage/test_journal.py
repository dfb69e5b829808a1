import os
import subprocess
import sys

import optuna
import pytest

from effxfer.errors import ModelFileError, SettingsError
from effxfer.search.storage import journal as module
from effxfer.search.storage.backends import JOURNAL, Journal, check_backend, own_journal
from effxfer.search.storage.journal import cut_torn_tail
from effxfer.search.storage.trials import load_study, open_study, requeue_stale


@pytest.fixture(autouse=True)
def _silent():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def add(study, value):
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    study.tell(trial, value)


def test_a_torn_line_is_cut_kept_and_the_study_goes_on(tmp_path):
    study = open_study(own_journal(tmp_path), {"a": 1})
    add(study, 0.5)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "worker_id": "tor')
    copy = cut_torn_tail(journal)
    assert copy.read_bytes() == b'{"op_code": 4, "worker_id": "tor'
    assert journal.read_bytes() == whole
    assert cut_torn_tail(journal) is None
    add(load_study(own_journal(tmp_path)), 0.7)
    assert [t.value for t in load_study(own_journal(tmp_path)).trials] == [0.5, 0.7]


def test_a_line_torn_while_others_work_is_cut_before_the_next_append(tmp_path):
    study = open_study(own_journal(tmp_path), {})
    add(study, 0.1)
    with (tmp_path / JOURNAL).open("ab") as stream:
        stream.write(b'{"half')
    add(study, 0.2)
    assert [t.value for t in load_study(own_journal(tmp_path)).trials] == [0.1, 0.2]
    assert len(list(tmp_path.glob("*.torn-*"))) == 1


def test_every_prefix_of_a_journal_opens(tmp_path):
    study = open_study(own_journal(tmp_path), {})
    add(study, 0.1)
    add(study, 0.2)
    whole = (tmp_path / JOURNAL).read_bytes()
    end_of_study = whole.index(b"\n") + 1
    for cut in range(end_of_study, len(whole), 37):
        (tmp_path / JOURNAL).write_bytes(whole[:cut])
        open_study(own_journal(tmp_path), {})
        requeue_stale(load_study(own_journal(tmp_path)), own_journal(tmp_path))


def test_an_absent_journal_has_no_torn_tail(tmp_path):
    assert cut_torn_tail(tmp_path / JOURNAL) is None


DAMAGES = {
    "bytes before it": lambda lines: [lines[0], b'{"op_co' + lines[1], *lines[2:]],
    "a list": lambda lines: [lines[0], b"[]", *lines[2:]],
    "nested too deeply": lambda lines: [lines[0], b"[" * 100_000, *lines[2:]],
    "an unknown event": lambda lines: [lines[0], lines[1].replace(b'"op_code":2', b'"op_code":20'), *lines[2:]],
    "another study": lambda lines: [lines[0], lines[1].replace(b'"study_id":0', b'"study_id":7'), *lines[2:]],
    "no UTF-8": lambda lines: [lines[0], b"\xff\xfe", *lines[2:]],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_in_the_middle_is_named_and_left_as_it_is(tmp_path, damage):
    place = Journal(tmp_path / "shared", shared=True)
    add(open_study(place, {}), 0.1)
    lines = place.file.read_bytes().splitlines()
    place.file.write_bytes(b"\n".join(DAMAGES[damage](lines)) + b"\n" + b"torn")
    before = place.file.read_bytes()
    with pytest.raises(ModelFileError, match="damaged in line 2") as caught:
        open_study(place, {})
    assert caught.value.code == "E404"
    assert "keep its first 1 lines" in caught.value.hint
    assert place.file.read_bytes() == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_journal_of_ones_own_goes_on_from_the_line_before_the_damage(tmp_path, damage):
    add(open_study(own_journal(tmp_path), {}), 0.1)
    journal = tmp_path / JOURNAL
    lines = journal.read_bytes().splitlines()
    damaged = DAMAGES[damage](lines)
    journal.write_bytes(b"\n".join(damaged) + b"\n")
    assert "damaged in line 2" in own_journal(tmp_path).repair()
    assert journal.read_bytes() == lines[0] + b"\n"
    assert (tmp_path / f"{JOURNAL}.torn-0").read_bytes() == b"\n".join(damaged[1:]) + b"\n"
    assert own_journal(tmp_path).repair() == ""
    add(open_study(own_journal(tmp_path), {}), 0.3)
    assert load_study(own_journal(tmp_path)).best_value == 0.3


def test_no_changed_digit_of_a_result_is_taken_for_the_result(tmp_path):
    add(open_study(own_journal(tmp_path), {}), 0.125)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    for digit in (place for place, byte in enumerate(whole) if chr(byte).isdigit()):
        journal.write_bytes(whole[:digit] + (b"1" if whole[digit : digit + 1] != b"1" else b"2") + whole[digit + 1 :])
        with pytest.raises(ModelFileError, match="is damaged in line"):
            own_journal(tmp_path).open()


def test_lines_that_optuna_itself_wrote_are_read(tmp_path):
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / JOURNAL))
    study = optuna.create_study(storage=optuna.storages.JournalStorage(backend), study_name="head")
    add(study, 0.25)
    add(load_study(own_journal(tmp_path)), 0.75)
    assert [t.value for t in load_study(own_journal(tmp_path)).trials] == [0.25, 0.75]
    assert own_journal(tmp_path).repair() == ""


def test_events_that_do_not_fit_each_other_are_named(tmp_path):
    (tmp_path / "old").write_text('{"op_code":0,"worker_id":"a","study_name":"x","directions":[1]}\n{"op_code":4}\n')
    with pytest.raises(ModelFileError, match="do not fit each other: KeyError 'study_id'") as caught:
        Journal(tmp_path / "old", shared=True).open()
    assert caught.value.code == "E404"


@pytest.mark.parametrize(
    "content", [b"first note\nsecond note, no end", b"\x7fELF\x00\n\x01\x02", b"{", b"[]\n", b"{}\n"]
)
def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path, content):
    notes = tmp_path / "notes"
    notes.write_bytes(content)
    for attempt in (Journal(notes, shared=True).open, lambda: check_backend(f"journal:{notes}")):
        with pytest.raises(SettingsError, match="is not a journal of trials: it is left as it is") as caught:
            attempt()
        assert caught.value.code == "E213"
    assert notes.read_bytes() == content
    assert list(tmp_path.iterdir()) == [notes]


def test_what_is_no_plain_file_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "astray").symlink_to(tmp_path / "nowhere")
    kinds = {
        "pipe": "a pipe",
        "folder": "a folder",
        "link": "a link to",
        "astray": "a link to",
        "file/x": "below a file",
    }
    for name, words in {**kinds, "/dev/null": "a device"}.items():
        with pytest.raises(SettingsError, match=words):
            check_backend(f"journal:{tmp_path / name}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["astray", "file", "folder", "link", "pipe"]


def test_a_journal_that_is_not_there_yet_is_no_mistake(tmp_path):
    check_backend(f"journal:{tmp_path / 'some' / 'where' / 'trials'}")
    (tmp_path / "empty").write_bytes(b"")
    Journal(tmp_path / "empty", shared=True).open()
    assert not (tmp_path / "some").exists()


def test_a_leftover_lock_of_a_killed_process_does_not_stall(tmp_path):
    open_study(own_journal(tmp_path), {})
    holder = (
        "import sys, time; from pathlib import Path; from effxfer.search.storage.journal import writer_lock;"
        "lock = writer_lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", holder, str(tmp_path / JOURNAL)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    process.kill()
    process.communicate()
    optuna_lock = tmp_path / f"{JOURNAL}.lock"
    optuna_lock.symlink_to(tmp_path / JOURNAL)
    add(load_study(own_journal(tmp_path)), 0.3)
    assert load_study(own_journal(tmp_path)).best_value == 0.3


def test_only_what_must_last_waits_for_the_disk(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(module.os, "fsync", lambda file: waits.append((tmp_path / JOURNAL).stat().st_size))
    study = open_study(own_journal(tmp_path), {})
    assert len(waits) == 2  # the study, and its facts
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.report(0.1, 1)
    assert len(waits) == 2
    study.tell(trial, 0.5)
    assert waits[-1] == (tmp_path / JOURNAL).stat().st_size
    assert len(waits) == 3
    assert load_study(own_journal(tmp_path)).trials[0].value == 0.5
