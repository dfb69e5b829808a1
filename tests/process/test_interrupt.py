"""A signal ends the command line, whatever a library makes of it."""

import signal
import subprocess
import sys
import threading

import pytest

from effxfer.process import interrupt

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
STOPPED = "effxfer: stopped; go on with: effxfer status demo --seed 3 --json"
SWALLOWING = ("swallowed", "swallowed_for_ever", "another_error", "went_on", "another_handler", "native")


def run(mode, number):
    words = [sys.executable, "-m", "tests.interrupted", mode, str(int(number))]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_signal_ends_with_its_code_and_the_command_that_goes_on(number):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, as under nohup, and processes inherit that")
    done = run("raised", number)
    assert (done.returncode, done.stdout, done.stderr) == (CODES[number], "", f"{STOPPED}\n")


@pytest.mark.parametrize("mode", SWALLOWING)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_no_library_keeps_a_signal_to_itself(mode, number):
    done = run(mode, number)
    assert (done.returncode, done.stdout, done.stderr) == (CODES[number], "", f"{STOPPED}\n")


def test_what_cannot_be_raised_shows_no_traceback():
    done = run("lost_in_a_destructor", signal.SIGTERM)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", f"{STOPPED}\n")


def test_cleaning_up_is_not_interrupted():
    done = run("slow_to_clean_up", signal.SIGTERM)
    assert (done.returncode, done.stderr) == (143, f"cleaned up\n{STOPPED}\n")


def test_a_second_interrupt_ends_at_once():
    done = run("twice", signal.SIGINT)
    assert (done.returncode, done.stderr) == (130, f"{STOPPED}\n")


@pytest.mark.parametrize("mode", ["never", "ignored", "late"])
def test_a_result_that_is_printed_is_a_result(mode):
    done = run(mode, signal.SIGINT)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"command": "effxfer status demo --seed 3"' in done.stdout


def test_an_error_that_came_of_a_signal_is_told_from_another():
    said, go = [], threading.Event()

    def look():
        go.wait(10)
        said.append(interrupt.is_unwinding())

    def see():
        watcher = threading.Thread(target=look)
        watcher.start()
        go.set()
        watcher.join()
        go.clear()

    see()
    try:
        try:
            raise interrupt.Terminated
        except BaseException as error:
            raise ValueError("of the library") from error
    except ValueError:
        see()
    try:
        raise ValueError("of its own")
    except ValueError:
        see()
    assert said == [False, True, False]
