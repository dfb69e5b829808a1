"""A real Ray cluster of two nodes on this machine: equal results, also when a worker is killed during a training."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from effxfer.artifact import Artifact
from effxfer.errors import ResourceError
from effxfer.pipeline.ray_cluster import RayCluster
from effxfer.process.children import PACKAGE
from tests.pipeline.test_parallel import command, write
from tests.process.test_children import alive, wait_for

INSTALLED = importlib.util.find_spec("ray") is not None
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.mark.skipif(INSTALLED, reason="Ray is installed")
def test_without_ray_the_command_that_installs_it_is_named():
    with pytest.raises(ResourceError, match="clusters need the package ray") as caught:
        RayCluster("auto", threads=1)
    assert "pip install 'effxfer[ray]'" in str(caught.value)


@pytest.fixture
def address(tmp_path, monkeypatch):
    """The address of a cluster of two nodes with one CPU each, whose workers import this package."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # 15 by default: on a busy machine the test would wait for ever
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    lines = iter(process.stdout.readline, "")
    yield next(line.strip() for line in lines if ":" in line and line.strip().rpartition(":")[2].isdecimal())
    process.communicate("", timeout=60)


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="needs Ray: pip install 'effxfer[ray]'")
def test_a_cluster_gives_the_results_of_a_sequential_run_though_a_worker_is_killed(folder, tmp_path, address):
    file = write(tmp_path / "mine.toml", folder, ("a", "", 1), ("b", "a", 30), ("c", "a", 30))
    run = subprocess.Popen(**command(file, tmp_path / "two", "--cluster", address), stdout=subprocess.DEVNULL)
    works = [tmp_path / "two" / f".work-{place}" for place in ("2-b", "3-c")]
    assert wait_for(lambda: run.poll() is not None or all(list(work.glob("key-*/checkpoint.pt")) for work in works))
    child = json.loads((works[0] / ".lock.json").read_text())["pid"]
    os.kill(parent_of(child), signal.SIGKILL)
    assert wait_for(lambda: not alive(child)), "a child ends with its worker"
    errors = run.communicate(timeout=500)[1]
    assert run.returncode == 0, errors
    done = subprocess.run(**command(file, tmp_path / "one"), stdout=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    for place in ("1-a", "2-b", "3-c"):
        one, two = (Artifact.load(tmp_path / name / place).manifest for name in ("one", "two"))
        assert (one.key, one.files["weights.safetensors"]) == (two.key, two.files["weights.safetensors"])
