"""As many processes work at a time as there are slots; whoever waits for its children gives its own up."""

import pytest

from effxfer.process.job_slots import JobSlot, hold_slot, leave_slot


def is_free(folder, count):
    slot = JobSlot(folder, count)
    taken = [file for file in slot.files if slot._lock(file)]
    slot.free()
    return len(taken)


def test_a_slot_is_held_given_up_while_waiting_and_freed(tmp_path):
    with hold_slot(tmp_path, 2):
        assert is_free(tmp_path, 2) == 1
        with hold_slot(tmp_path, 2):
            assert is_free(tmp_path, 2) == 0
            with leave_slot():
                assert is_free(tmp_path, 2) == 1
            assert is_free(tmp_path, 2) == 0
        with pytest.raises(ValueError), leave_slot():
            raise ValueError
        assert is_free(tmp_path, 2) == 2, "after an error the process ends, and waits for nobody"
    assert is_free(tmp_path, 2) == 2


def test_without_a_parallel_run_there_is_no_slot():
    with leave_slot():
        pass
