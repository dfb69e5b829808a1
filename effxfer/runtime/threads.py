"""Choose the number of threads: one per physical core that this process may run on, within its container's limit.

A container's limit is a quota of time per period (100 ms by default), not a number of cores. With a quota of half a
core, two threads use it up in a quarter of the period, and then both are stopped until its end.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
MOUNT = "sys/fs/cgroup"
CPU_CONTROLLERS = ("cpu", "cpu,cpuacct", "cpuacct,cpu")


def usable_cores(root: Path = ROOT) -> int:
    """Return the number of physical cores that this process may use, at most its container's limit rounded up.

    Args:
        root: Root of the file system with `/proc` and `/sys`.

    Returns:
        At least 1.
    """
    return within_quota(_physical_cores(allowed_cores(), root), root)


def usable_logical_cores(root: Path = ROOT) -> int:
    """Return the number of logical cores that this process may use, at most its container's limit rounded up.

    For threads that wait for files or decode images: a physical core's second thread is of use to them.

    Args:
        root: See `usable_cores`.
    """
    return within_quota(len(allowed_cores()), root)


def within_quota(threads: int, root: Path = ROOT) -> int:
    """Limit a number of threads to the container's quota, rounded up; at least 1."""
    quota = cpu_quota(root)
    # Rounded up: with a quota of 1.5 cores a second thread is of use half of the time.
    return max(1, threads if quota is None else min(threads, math.ceil(quota)))


def allowed_cores() -> frozenset[int]:
    """Return the numbers of the logical cores that this process may run on."""
    # Linux only.
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return the CPU quota of this process's control groups in cores, or None without a limit.

    Groups are nested and the smallest limit counts: version 2 has `cpu.max`, version 1 `cpu.cfs_quota_us`. In a
    container the group's path may be the host's, which does not exist inside; the mount itself is then the group.

    Args:
        root: Root of the file system with `/proc` and `/sys`.
    """
    limits = [limit for folder in _groups(root) if (limit := _read_limit(folder)) is not None]
    return min(limits, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups, from the innermost to the mount."""
    for line in _read_text(root / "proc/self/cgroup").splitlines() or ["0::/"]:
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers or "cpu" in controllers.split(","):
            parts = [] if ".." in path.split("/") else [part for part in path.split("/") if part]
            names = CPU_CONTROLLERS if controllers else ("", "unified")
            for mount in (root / MOUNT / name for name in names):
                yield from (mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def _read_limit(folder: Path) -> float | None:
    quota, _, period = _read_text(folder / "cpu.max").partition(" ")
    if not period:
        quota, period = _read_text(folder / "cpu.cfs_quota_us"), _read_text(folder / "cpu.cfs_period_us")
    plain = quota.isascii() and quota.isdecimal() and period.isascii() and period.isdecimal()
    return int(quota) / int(period) if plain and int(quota) and int(period) else None


def _physical_cores(numbers: frozenset[int], root: Path) -> int:
    """Count the physical cores of some logical ones; if `/proc/cpuinfo` does not tell, count the logical ones."""
    cores, number, chip = dict[int, tuple[str, str]](), -1, ""
    for line in _read_text(root / "proc/cpuinfo").splitlines():
        key, value = (part.strip() for part in (*line.split(":", 1), "")[:2])
        if key == "processor" and value.isdecimal():
            number, chip = int(value), ""
        elif key == "physical id":
            chip = value
        elif key == "core id":
            cores[number] = chip, value
    return len({cores[number] for number in numbers}) if numbers <= cores.keys() else len(numbers)


def _read_text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
