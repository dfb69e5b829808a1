"""Whoever measures time has the machine to itself, among the processes of a parallel run."""

import threading

import pytest

from effxfer.process import timing_lock
from effxfer.process.timing_lock import (
    TimingLock,
    exclusive_timing,
    leave_machine,
    pause_for_timing,
    share_machine,
)

LONG = 60.0


@pytest.fixture
def neighbour(tmp_path):
    """The lock of another process: locks of one file that was opened twice exclude each other, as between processes."""
    lock = TimingLock(tmp_path)
    yield lock
    lock.close()


def is_shared(lock):
    """Whether somebody works, so that a measurement would have to wait."""
    try:
        timing_lock.fcntl.flock(lock.machine, timing_lock.fcntl.LOCK_EX | timing_lock.fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    lock.release()
    return False


def test_without_a_parallel_run_nothing_is_locked():
    with exclusive_timing(), leave_machine():
        assert pause_for_timing() == 0.0


def test_a_training_shares_the_machine_and_gives_it_up_while_it_waits(tmp_path, neighbour):
    with share_machine(tmp_path):
        neighbour.share()
        neighbour.release()
        assert is_shared(neighbour)
        with leave_machine():
            assert not is_shared(neighbour)
        assert is_shared(neighbour)
    assert not is_shared(neighbour)


def test_a_measurement_waits_for_trainings_and_keeps_new_ones_out(tmp_path, neighbour):
    neighbour.share()
    seen = []

    def measure():
        with share_machine(tmp_path), exclusive_timing(), exclusive_timing():
            seen.append(neighbour.is_wanted())

    thread = threading.Thread(target=measure)
    thread.start()
    while not neighbour.is_wanted():
        assert thread.is_alive()
    assert seen == []
    neighbour.release()
    thread.join(LONG)
    assert seen == [True]
    assert not neighbour.is_wanted()
    assert not is_shared(neighbour)


def test_a_training_pauses_between_steps_for_a_measurement(tmp_path, neighbour):
    with share_machine(tmp_path):
        assert pause_for_timing() == 0.0
        began, measured = threading.Event(), []

        def measure():
            began.set()
            neighbour.exclude()
            measured.append(True)
            neighbour.release()

        thread = threading.Thread(target=measure)
        thread.start()
        began.wait(LONG)
        while thread.is_alive():
            pause_for_timing()
        assert measured == [True]
        assert is_shared(neighbour)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_measurement_lets_others_go_on(tmp_path, neighbour, error):
    with share_machine(tmp_path):
        with pytest.raises(error), exclusive_timing():
            raise error
        assert not neighbour.is_wanted()
        assert is_shared(neighbour) == (error is ValueError), "who is asked to end waits for nobody"
