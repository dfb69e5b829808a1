"""Several worker processes on one study; features travel as memory-mapped files, never as pickles.

The module with the arguments FOLDER PARENT THREADS is one worker.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from effxfer.errors import ResourceError
from effxfer.files import write_atomic
from effxfer.process import children, interrupt
from effxfer.runtime.outputs.registry import output_from_json
from effxfer.runtime.threads import usable_logical_cores
from effxfer.search.costs import Costs
from effxfer.search.features import Features
from effxfer.search.space import SearchSettings
from effxfer.search.storage.trials import counts, load_study, requeue_stale
from effxfer.search.workers.worker import Search, out_of_time, run_trials
from effxfer.settings import build

SHARED = "features"
POLL = 0.3  # chosen: seconds between looks at workers and progress; a look reads the study
GRACE = 3.0  # seconds; less than service managers wait between SIGTERM and SIGKILL


def run_workers(study: Any, search: Search, show_progress: Callable[[], None]) -> None:
    """Run `settings.workers` processes until the budget is used up or time is.

    A worker that is killed loses its one trial, which is queued again; another worker starts as long as that helps.

    Args:
        study: The Optuna study.
        search: The search.
        show_progress: Called several times a second.

    Raises:
        ResourceError: If the workers die without finishing a single trial.
    """
    with _share_inputs(study, search):
        while (before := _count_finished(study)) < search.settings.max_trials and not out_of_time(study, search):
            failed = _round(study, search, show_progress)
            requeue_stale(study, search.backend)
            if failed and _count_finished(study) == before and not out_of_time(study, search):
                # A round without a single trial will not do better next time.
                raise ResourceError(
                    f"search workers finished no trial: {_last_words(search.folder)}",
                    f"see {search.folder}/worker-*.log, or use 1 worker",
                )
            if not failed:
                return


def _round(study: Any, search: Search, show_progress: Callable[[], None]) -> bool:
    """Start workers and wait for them; true if one of them failed."""
    # No worker for a trial that is not left.
    n = min(search.settings.workers, search.settings.max_trials - _count_finished(study))
    workers = [_start(search, k) for k in range(n)]
    try:
        while any(worker.poll() is None for worker in workers):
            show_progress()
            time.sleep(POLL)
        show_progress()
    finally:
        _end(workers)
    return any(worker.returncode != 0 for worker in workers)


def _start(search: Search, k: int) -> subprocess.Popen[bytes]:
    # Together no more than cores: torch's default is all of them in every worker.
    threads = max(1, usable_logical_cores() // search.settings.workers)
    with (search.folder / f"worker-{k}.log").open("wb") as log:
        return children.start(
            "effxfer.search.workers.worker_pool", str(search.folder), str(os.getpid()), str(threads), log=log
        )


def _end(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.terminate()
    # One deadline for all workers, not one each.
    until = time.monotonic() + GRACE
    for worker in workers:
        try:
            worker.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _count_finished(study: Any) -> int:
    number = counts(study.get_trials(deepcopy=False))
    return number["complete"] + number["pruned"]


def _last_words(folder: Path) -> str:
    texts = [log.read_text(errors="replace").splitlines() for log in sorted(folder.glob("worker-*.log"))]
    messages = [[line for line in lines if line.strip() and not line.strip().startswith("hint:")] for lines in texts]
    return next((lines[-1].strip() for lines in messages if lines), "they were killed")


@contextmanager
def _share_inputs(study: Any, search: Search) -> Iterator[None]:
    """Lay out what workers need in the search's folder, but for what lies on the disk already; removed at the end."""
    folder = search.folder / SHARED
    try:
        features = search.features
        kinds = {"train": features.train, "val": features.val}
        kinds |= {"train_maps": features.train_maps, "val_maps": features.val_maps}
        job: dict[str, Any] = {
            kind: {name: _file(folder / f"{kind}-{k}.npy", array) for k, (name, array) in enumerate(matrices.items())}
            for kind, matrices in kinds.items()
        }
        job |= {
            "labels": _file(folder / "labels.npy", features.labels),
            "val_labels": _file(folder / "val_labels.npy", features.val_labels),
            "output": features.output.to_json(),
            "settings": {n: v for n, v in search.settings.plain().items() if n in SearchSettings.model_fields},
            "choices": search.choices,
            "seed": search.seed,
            "until": None if math.isinf(search.until) else search.until,
            "reserve": search.reserve,
            "costs": search.costs.plain() if search.costs else None,
            "study": study.study_name,
        }
        write_atomic(folder / "job.json", json.dumps(job))
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _file(file: Path, array: np.ndarray[Any, Any]) -> str:
    """Name the file that holds an array: the one that it is mapped from, or a new one."""
    source = getattr(array, "filename", None)
    # The offset is the header of an .npy file; a raw map has none, and `np.load` could not read it.
    if isinstance(array, np.memmap) and source and array.offset:
        return str(source)
    write_atomic(file, lambda scratch: np.save(scratch, array, allow_pickle=False))
    return str(file.absolute())


def _load(folder: Path, parent: int) -> tuple[Any, Search]:
    """Read what `_share_inputs` laid out; the search stops when its parent is gone."""
    job = json.loads((folder / SHARED / "job.json").read_text())

    def map_arrays(kind: str) -> dict[str, Any]:
        return {name: np.load(file, mmap_mode="r", allow_pickle=False) for name, file in job[kind].items()}

    features = Features(
        train=map_arrays("train"),
        val=map_arrays("val"),
        labels=np.load(job["labels"], allow_pickle=False),
        val_labels=np.load(job["val_labels"], allow_pickle=False),
        output=output_from_json(job["output"]),
        train_maps=map_arrays("train_maps"),
        val_maps=map_arrays("val_maps"),
    )
    search = Search(
        features=features,
        settings=build(SearchSettings, job["settings"], "search"),
        choices=tuple(tuple(taps) for taps in job["choices"]),
        seed=job["seed"],
        folder=folder,
        stop=lambda: os.getppid() != parent,
        costs=Costs.from_plain(job["costs"]) if job["costs"] else None,
        until=job["until"] or float("inf"),
        reserve=job["reserve"],
    )
    return load_study(search.backend, job["study"]), search


def main(folder: Path, parent: int, threads: int) -> None:
    """Be one worker: Ctrl-C is left to the parent, which ends its workers with SIGTERM."""
    # The terminal sends Ctrl-C to the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Half of the parent's patience, so that a worker gives its lock back before it is killed.
    with interrupt.end_on_signals("stopped", patience=GRACE / 2):
        import torch

        torch.set_num_threads(threads)
        study, search = _load(folder, parent)
        try:
            run_trials(study, search)
        finally:
            search.backend.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
