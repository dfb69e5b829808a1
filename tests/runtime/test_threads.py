import subprocess
import sys

import pytest

from effxfer.runtime import threads
from effxfer.runtime.session import session_options
from effxfer.runtime.threads import cpu_quota, usable_cores, usable_logical_cores, within_quota

V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"


def system(root, group, **files):
    """Lay out `/proc/self/cgroup` and files by their path, `/` written as `__`."""
    texts = {"proc/self/cgroup": group, **files}
    for name, text in texts.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


def v1(folder, quota, period=100_000):
    return {f"{folder}/cpu.cfs_quota_us": str(quota), f"{folder}/cpu.cfs_period_us": str(period)}


@pytest.mark.parametrize(
    ("group", "files", "quota"),
    [
        ("", {}, None),
        ("0::/", {f"{V2}/cpu.max": "max 100000"}, None),
        ("0::/", {f"{V2}/cpu.max": "50000 100000"}, 0.5),
        ("0::/a/b", {f"{V2}/a/b/cpu.max": "max 100000", f"{V2}/a/cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b", {f"{V2}/a/b/cpu.max": "300000 100000", f"{V2}/a/cpu.max": "200000 100000"}, 2),
        ("0::/a/b", {f"{V2}/a/b/cpu.max": "100000 100000", f"{V2}/a/cpu.max": "200000 100000"}, 1),
        ("0::/docker/of/the/host", {f"{V2}/cpu.max": "250000 100000"}, 2.5),
        ("0::/../other", {f"{V2}/cpu.max": "50000 100000", f"{V2}/other/cpu.max": "10000 100000"}, 0.5),
        ("0::/a", {f"{V2}/a/cpu.max": "a b c"}, None),
        ("0::/a", {f"{V2}/a/cpu.max": "0 100000"}, None),
        ("4:memory:/m\n3:cpu,cpuacct:/a\n0::/", v1(f"{V1}/a", 50_000), 0.5),
        ("3:cpu,cpuacct:/a/b", {**v1(f"{V1}/a/b", -1), **v1(f"{V1}/a", 120_000)}, 1.2),
        ("3:cpu:/docker/of/the/host", v1("sys/fs/cgroup/cpu", 50_000), 0.5),
        ("3:cpuset:/a", v1(f"{V1}/a", 50_000), None),
        ("3:cpu:/a\n0::/b", {**v1("sys/fs/cgroup/cpu/a", 400_000), f"{V2}/unified/b/cpu.max": "100000 100000"}, 1),
        ("no line of this kind", {}, None),
    ],
)
def test_the_smallest_limit_of_all_groups_around_this_process_counts(tmp_path, group, files, quota):
    assert cpu_quota(system(tmp_path, group, **files)) == quota


def test_without_a_list_of_groups_the_mount_is_looked_at(tmp_path):
    (tmp_path / V2).mkdir(parents=True)
    (tmp_path / V2 / "cpu.max").write_text("50000 100000")
    assert cpu_quota(tmp_path) == 0.5
    assert cpu_quota(tmp_path / "nowhere") is None


CPUS = "\n\n".join(f"processor\t: {n}\nphysical id\t: {n % 2}\ncore id\t\t: {n // 4}" for n in range(8))


@pytest.mark.parametrize(
    ("allowed", "info", "quota", "cores"),
    [
        (range(8), CPUS, "", 4),
        (range(8), CPUS, "250000 100000", 3),
        (range(8), CPUS, "50000 100000", 1),
        (range(8), CPUS, "1000 100000", 1),
        (range(8), CPUS, "900000 100000", 4),
        ([0, 2], CPUS, "", 1),
        ([0, 1, 4], CPUS, "", 3),
        (range(8), "", "", 8),
        ([0, 9], CPUS, "", 2),
        (range(4), "processor : x\ncore id : 0\ncore id", "", 4),
    ],
)
def test_cores_are_those_that_are_there_allowed_and_paid_for(tmp_path, monkeypatch, allowed, info, quota, cores):
    monkeypatch.setattr(threads, "allowed_cores", lambda: frozenset(allowed))
    system(tmp_path, "0::/", **{"proc/cpuinfo": info, f"{V2}/cpu.max": quota})
    assert usable_cores(tmp_path) == cores


def test_logical_cores_are_limited_by_the_quota_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "allowed_cores", lambda: frozenset(range(8)))
    system(tmp_path, "0::/", **{"proc/cpuinfo": CPUS})
    assert usable_logical_cores(tmp_path) == 8
    system(tmp_path, "0::/", **{f"{V2}/cpu.max": "250000 100000"})
    assert usable_logical_cores(tmp_path) == 3


def test_a_quota_takes_threads_and_never_adds_any(tmp_path):
    root = system(tmp_path, "0::/", **{f"{V2}/cpu.max": "250000 100000"})
    assert [within_quota(n, root) for n in (0, 1, 3, 64)] == [1, 1, 3, 3]
    assert within_quota(64, tmp_path / "nowhere") == 64


def test_sessions_get_as_many_unless_they_are_told(monkeypatch):
    monkeypatch.setattr("effxfer.runtime.session.usable_cores", lambda: 3)
    assert session_options().intra_op_num_threads == 3
    assert session_options(threads=5).intra_op_num_threads == 5


def test_torch_keeps_to_a_quota_only():
    code = (
        "import torch; from effxfer.train import devices; torch.set_num_threads(4);"
        "before = (devices.pick_device('cpu'), torch.get_num_threads())[1];"
        "devices.within_quota = lambda n: min(n, 2);"
        "print(before, (devices.pick_device('cpu'), torch.get_num_threads())[1])"
    )
    for variables, expected in (({}, "4 2"), ({"OMP_NUM_THREADS": "4"}, "4 4")):
        started = f"import os; os.environ.pop('OMP_NUM_THREADS', 0); os.environ.update({variables})\n"
        patched = "import effxfer.runtime.threads as t; t.cpu_quota = lambda root=None: None\n"
        done = subprocess.run(
            [sys.executable, "-c", started + patched + code], capture_output=True, text=True, timeout=300, check=True
        )
        assert done.stdout.strip() == expected
