"""How many threads are worth starting: one per core that this process may run on, within its container's limit.

A container's limit is time, not cores: with half a core's worth and two threads, both stand still together for most of
each tenth of a second.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
MOUNT = "sys/fs/cgroup"
TIME = ("cpu", "cpu,cpuacct", "cpuacct,cpu")


def usable_cores(root: Path = ROOT) -> int:
    """Give the smallest of: physical cores that this process may run on, and its container's limit, rounded up.

    Args:
        root: Where `/proc` and `/sys` are.

    Returns:
        At least 1.
    """
    return within_quota(_physical(allowed(), root), root)


def within_quota(threads: int, root: Path = ROOT) -> int:
    """Give as many of `threads` as a container's limit has time for, at least 1; all where there is none."""
    quota = cpu_quota(root)
    return max(1, threads if quota is None else min(threads, math.ceil(quota)))


def allowed() -> frozenset[int]:
    """Give the numbers of the logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def cpu_quota(root: Path = ROOT) -> float | None:
    """Give the cores' worth of time that control groups allow this process, or None without a limit.

    Groups lie in each other, and the smallest limit counts: version 2 has `cpu.max`, version 1 `cpu.cfs_quota_us`. In a
    container the path of its group may be that outside, which does not exist; its mount is then the group itself.

    Args:
        root: Where `/proc` and `/sys` are.
    """
    limits = [limit for folder in _groups(root) if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """Give the folders of this process's control groups, from the innermost to the mount."""
    for line in _text(root / "proc/self/cgroup").splitlines() or ["0::/"]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers or "cpu" in controllers.split(","):
            parts = [] if ".." in path.split("/") else [part for part in path.split("/") if part]
            names = TIME if controllers else ("", "unified")
            for mount in (root / MOUNT / name for name in names):
                yield from (mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def _limit(folder: Path) -> float | None:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if not period:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    plain = quota.isascii() and quota.isdecimal() and period.isascii() and period.isdecimal()
    return int(quota) / int(period) if plain and int(quota) and int(period) else None


def _physical(numbers: frozenset[int], root: Path) -> int:
    """Count the cores that logical ones belong to; where that is not known, the logical ones."""
    found, number, chip = dict[int, tuple[str, str]](), -1, ""
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, value = (part.strip() for part in (*line.split(":", 1), "")[:2])
        if key == "processor" and value.isdecimal():
            number, chip = int(value), ""
        elif key == "physical id":
            chip = value
        elif key == "core id":
            found[number] = chip, value
    return len({found[one] for one in numbers}) if numbers <= found.keys() else len(numbers)


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""
