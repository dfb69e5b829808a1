"""The heap of a training: freed memory is used again, and given back afterwards."""

import resource
import sys

import numpy as np
import pytest

from effxfer.train.heap import _glibc, freed_memory_kept

BYTES = 2**26  # above the largest block that glibc keeps by itself

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or _glibc() is None, reason="another allocator than glibc's, whose habits are others"
)


def faults() -> int:
    """Count the pages that the kernel must clear while a block is allocated, written and freed eight times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        np.empty(BYTES, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_freed_memory_is_used_again_in_the_block_only():
    usual = faults()
    with freed_memory_kept():
        faults()  # the first block makes the heap grow
        kept = faults()
    assert kept < usual / 4
    assert faults() > usual / 4


def resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - a pseudo file
        return int(file.read().split()[1]) * resource.getpagesize()


def test_memory_goes_back_after_an_error_too():
    before = resident()
    with pytest.raises(KeyError), freed_memory_kept():
        blocks = [np.full(BYTES, 1, np.uint8) for _ in range(4)]
        del blocks
        raise KeyError
    assert resident() - before < 2 * BYTES
