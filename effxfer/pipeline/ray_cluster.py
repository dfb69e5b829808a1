"""Run the steps of a pipeline on a cluster of machines with Ray, which share the directory of the run.

A step is a Ray task. It starts a child process on its machine, like `ChildPool` on one machine. If a worker or a
machine dies, the task is tried again elsewhere, and goes on from the checkpoint in the directory of the run.
"""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from effxfer.errors import LockedError, ResourceError, missing_package
from effxfer.process.pool import ChildPool, Outcome
from effxfer.process.pool_child import error_from_json, error_to_json
from effxfer.process.scratch import scratch_folder, user_lock_folder

TRIES = 4  # of a step whose worker or process dies: chosen
UNLOCK_SECONDS = 30.0  # in which the process of a dead worker ends and the kernel frees its lock


def run_task(name: str, module: str, request: Mapping[str, Any], threads: int, run: str) -> dict[str, Any] | None:
    """Run a step in a child of this worker; return its error as plain values, or None.

    Args:
        name: Name of the step's directory.
        module: See `Executor.start`.
        request: See `Executor.start`.
        threads: Threads of the step.
        run: Name of the run, for the locks on this machine.
    """
    import ray

    if not Path(request["out"]).is_dir():
        text = f"{request['out']} does not exist on {os.uname().nodename}"
        return error_to_json(ResourceError(text, "give an `out` that all machines of the cluster share"))
    node = ray.get_runtime_context().get_node_id()
    locks = user_lock_folder(f"{run}-{node[:12]}")
    slots = max(1, int(_cores_of(node)) // threads)
    until = time.monotonic() + UNLOCK_SECONDS
    while True:
        with scratch_folder() as folder, ChildPool(folder, size=slots, threads=threads, locks=locks) as pool:
            pool.start(name, module, request)
            error = pool.wait().error
        if not isinstance(error, LockedError) or time.monotonic() > until:
            return error_to_json(error) if error else None
        time.sleep(1.0)


def _cores_of(node: str) -> float:
    import ray

    return next((float(one["Resources"].get("CPU", 1)) for one in ray.nodes() if one["NodeID"] == node), 1.0)


class RayCluster:
    """A cluster as an executor; use it as a context manager.

    Args:
        address: `auto` for the cluster that this machine belongs to, or `ray://HOST:10001`.
        threads: Threads of each step; a step takes as many CPUs of the cluster.

    Raises:
        ResourceError: If Ray is not installed, or there is no cluster.
    """

    def __init__(self, address: str, *, threads: int) -> None:
        try:
            import ray
        except ImportError:
            raise missing_package("ray", "ray", "clusters") from None
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
        except (ConnectionError, RuntimeError, ValueError) as error:
            hint = "start it on every machine as the guide on scale describes"
            raise ResourceError(f"no Ray cluster at {address}: {str(error).splitlines()[0][:200]}", hint) from None
        self.threads, self.run = threads, os.urandom(4).hex()
        self._size = max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
        # Ray itself tries a task again whose worker or machine died.
        self.task = ray.remote(num_cpus=threads, max_retries=TRIES - 1)(run_task)
        self.tasks: dict[Any, tuple[str, str, Mapping[str, Any], int]] = {}

    @property
    def size(self) -> int:
        """How many steps run at a time."""
        return self._size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        self.stop([task[0] for task in self.tasks.values()])
        ray.shutdown()

    def start(self, name: str, module: str, request: Mapping[str, Any]) -> None:
        """Start a step on the cluster; see `Executor.start`."""
        self._submit(name, module, request, 1)

    def _submit(self, name: str, module: str, request: Mapping[str, Any], attempt: int) -> None:
        reference = self.task.remote(name, module, dict(request), self.threads, self.run)
        self.tasks[reference] = name, module, request, attempt

    def wait(self) -> Outcome:
        """Wait until a step ends; one whose process was killed is tried again."""
        import ray

        while True:
            ready, _ = ray.wait(list(self.tasks), num_returns=1)
            name, module, request, attempt = self.tasks.pop(ready[0])
            try:
                failure = ray.get(ready[0])
            except ray.exceptions.RayError as error:
                text = f"{name} was lost {TRIES} times: {str(error).splitlines()[0][:200]}"
                return Outcome(name=name, error=ResourceError(text, "run the same command again, which resumes it"))
            killed = bool(failure) and "was killed by signal" in failure["problem"]
            if not killed or attempt == TRIES:
                return Outcome(name=name, error=error_from_json(failure) if failure else None)
            self._submit(name, module, request, attempt + 1)

    def stop(self, names: Iterable[str]) -> None:
        """Stop steps: their workers are killed, and with them their processes."""
        import ray

        stopped = set(names)
        for reference in [reference for reference, task in self.tasks.items() if task[0] in stopped]:
            ray.cancel(reference, force=True)
            del self.tasks[reference]
