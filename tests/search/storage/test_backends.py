import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest

from effxfer.errors import ResourceError
from effxfer.search.storage.backends import Journal, Postgres, backend_of
from effxfer.search.storage.trials import counts, is_alive, open_study, owner
from tests.search import shared
from tests.search.server import missing, server

ROOT = Path(__file__).parents[3]
needs_postgres = pytest.mark.skipif(bool(missing()), reason=missing() or "there is one")


@pytest.fixture(autouse=True)
def _silent():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module")
def database():
    with server() as address:
        yield address


@pytest.fixture
def place(request, tmp_path, monkeypatch):
    where = f"journal:{tmp_path / 'shared' / 'trials'}"
    if request.param == "postgres":
        monkeypatch.setenv("PGPASSWORD", "hunter2")
        where = request.getfixturevalue("database")
    found = backend_of(where, tmp_path)
    yield found
    found.close()


both = pytest.mark.parametrize(
    "place", ["journal", pytest.param("postgres", marks=needs_postgres)], indirect=True
)  # fmt: skip


def start(folder, trials, workers, storage):
    command = [sys.executable, "-m", "tests.search.shared", str(folder), str(trials), str(workers), storage]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)


def storage_of(place):
    return f"journal:{place.file}" if isinstance(place, Journal) else place.name


def only_study(place):
    storage = place.open()
    studies = [optuna.load_study(storage=storage, study_name=one.study_name) for one in storage.get_all_studies()]
    (found,) = [study for study in studies if "kinds" in study.user_attrs.get("facts", {})]
    return found


@both
def test_searches_with_other_facts_share_a_place(place):
    one, other, again = (open_study(place, {"seed": seed, "of": place.name}) for seed in (1, 2, 1))
    assert one.study_name == again.study_name != other.study_name


@both
def test_a_lock_is_held_until_its_process_is_killed(place):
    assert is_alive(place, owner(place))
    assert not place.is_locked("nobody's")
    free = place.acquire("mine")
    assert place.is_locked("mine")
    free()
    assert not place.is_locked("mine")


@pytest.mark.parametrize(
    "place", [pytest.param("journal", marks=pytest.mark.slow), pytest.param("postgres", marks=needs_postgres)],
    indirect=True,
)  # fmt: skip
def test_a_killed_machine_loses_no_trial(place, tmp_path):
    """One machine is killed with all it does; another runs its trial again and ends with the whole budget."""
    first = start(tmp_path / "first", 16, 1, storage_of(place))
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert first.poll() is None, first.stderr.read().decode()
        try:
            running = [t for t in only_study(place).trials if t.state.name == "RUNNING"]
        except ValueError:
            running = []
        if any(t.user_attrs.get("owner", {}).get("pid") == first.pid for t in running):
            break
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = start(tmp_path / "second", 16, 1, storage_of(place))
    said = second.communicate(timeout=120)[1].decode()
    assert second.returncode == 0, said
    trials = only_study(place).trials
    done = [t for t in trials if t.state.name in {"COMPLETE", "PRUNED"}]
    assert len(done) == 16
    assert max(Counter(str(sorted(t.params.items())) for t in done).values()) == 1
    found = counts(trials, place)
    assert found["running"] == 0
    assert found["lost"] <= 1


@needs_postgres
def test_what_a_database_refuses_is_told_without_its_password(database, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "wrong-one")
    with pytest.raises(ResourceError, match="password authentication failed") as told:
        backend_of(database, tmp_path).open()
    assert "wrong-one" not in str(told.value)
    with pytest.raises(ResourceError, match="PGPASSWORD"):
        Postgres("postgresql://me@127.0.0.1:1/none").open()


@needs_postgres
@pytest.mark.slow
def test_four_workers_do_800_trials_and_none_twice(database, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    shared.run(tmp_path / "four", 800, 4, database)
    done = [t for t in only_big(database) if t.state.name in {"COMPLETE", "PRUNED"}]
    assert len(done) == 800
    assert max(Counter(str(sorted(t.params.items())) for t in done).values()) == 1


def only_big(database):
    place = Postgres(database)
    storage = place.open()
    studies = [optuna.load_study(storage=storage, study_name=one.study_name) for one in storage.get_all_studies()]
    trials = max((study.trials for study in studies), key=len)
    place.close()
    return trials
