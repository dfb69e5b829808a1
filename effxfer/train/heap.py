"""Keep freed memory for the next step, in place of returning it to the kernel, which clears every page again.

glibc maps each large block by itself, and unmaps it when it is freed. A training step frees all its activations: with
large maps and little arithmetic, half of a step's time then goes into page faults. Measured on one thread of an AMD
EPYC: a step of Conv-4 with 64 channels on 512 images of 32 pixels takes 0.60 s of processor time in place of 1.21,
one of ResNet-18 on 32 images of 128 pixels 1.27 in place of 1.34.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Of glibc's <malloc.h>.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
# Chosen: with 256 MB, the large steps above gain half as much.
KEPT_BYTES = 2**30
# glibc's own, but for the threshold: it starts at 128 kB and grows to this by itself, until somebody sets it.
USUAL_MAPS, USUAL_TRIM = 65_536, 2**26


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let this process keep up to a gigabyte of freed memory in the block; without glibc nothing changes.

    Blocks come from one heap, which is cut into pieces: a training may need up to half as much memory more.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(TRIM_THRESHOLD, KEPT_BYTES)
    try:
        yield
    finally:
        libc.mallopt(MMAP_MAX, USUAL_MAPS)
        libc.mallopt(TRIM_THRESHOLD, USUAL_TRIM)
        libc.malloc_trim(0)


def _glibc() -> Any:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    # Not in musl, which keeps no heap of this kind.
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
