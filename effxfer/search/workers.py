"""Several worker processes on one study; features travel as memory-mapped files, never as pickles.

`python -m effxfer.search.workers FOLDER PARENT THREADS` is one worker.
"""

from __future__ import annotations

import json
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

import effxfer
from effxfer.errors import ResourceError
from effxfer.files import write_atomic
from effxfer.search.objective import Features
from effxfer.search.space import SearchSettings
from effxfer.search.storage import counts, load_study, revive
from effxfer.search.work import Search, work
from effxfer.settings import build

SHARED = "features"
POLL = 0.1
GRACE = 10.0


def run_workers(study: Any, search: Search, deadline: float | None, finished: Callable[[], None]) -> None:
    """Run `settings.workers` processes until the budget is used up or time is.

    A worker that is killed loses its one trial, which is queued again; its place is filled as long as that helps.

    Args:
        study: The Optuna study, already made.
        search: What it is about.
        deadline: `time.time()` at which workers stop; None is never.
        finished: Called now and then, to show progress.

    Raises:
        ResourceError: If the workers die without finishing a single trial.
    """
    with _shared(search, deadline):
        while (before := _finished(study)) < search.settings.trials and not search.stop():
            failed = _round(study, search, finished)
            revive(study)
            if _finished(study) == before and not search.stop():
                raise ResourceError(
                    f"search workers finished no trial: {_last_words(search.folder)}",
                    f"see {search.folder}/worker-*.log, or use 1 worker",
                )
            if not failed:
                return


def _round(study: Any, search: Search, finished: Callable[[], None]) -> bool:
    """Start workers and wait for them; true if one of them failed."""
    n = min(search.settings.workers, search.settings.trials - _finished(study))
    workers = [_start(search, k) for k in range(n)]
    try:
        while any(worker.poll() is None for worker in workers):
            finished()
            time.sleep(POLL)
        finished()
    finally:
        _end(workers)
    return any(worker.returncode != 0 for worker in workers)


def _start(search: Search, k: int) -> subprocess.Popen[bytes]:
    threads = max(1, _cores() // search.settings.workers)
    path = os.pathsep.join(filter(None, [str(Path(effxfer.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "effxfer.search.workers", str(search.folder), str(os.getpid()), str(threads)]
    with (search.folder / f"worker-{k}.log").open("wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": path}
        )


def _end(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.terminate()
    for worker in workers:
        try:
            worker.wait(GRACE)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _finished(study: Any) -> int:
    found = counts(study.get_trials(deepcopy=False))
    return found["complete"] + found["pruned"]


def _last_words(folder: Path) -> str:
    texts = [log.read_text(errors="replace").strip() for log in sorted(folder.glob("worker-*.log"))]
    return next((text.splitlines()[-1] for text in texts if text), "they were killed")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _shared(search: Search, deadline: float | None) -> Iterator[None]:
    """Lay out what workers need in the search's folder; it is removed at the end."""
    folder = search.folder / SHARED
    try:
        features = search.features
        layers = list(features.train)
        for k, name in enumerate(layers):
            _save(folder / f"train-{k}.npy", features.train[name])
            _save(folder / f"val-{k}.npy", features.val[name])
        _save(folder / "labels.npy", features.labels)
        _save(folder / "val_labels.npy", features.val_labels)
        job = {
            "layers": layers,
            "classes": features.classes,
            "settings": search.settings.plain(),
            "choices": search.choices,
            "seed": search.seed,
            "deadline": deadline,
        }
        write_atomic(folder / "job.json", json.dumps(job))
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _save(file: Path, array: np.ndarray[Any, Any]) -> None:
    write_atomic(file, lambda scratch: np.save(scratch, array, allow_pickle=False))


def _load(folder: Path, parent: int) -> Search:
    """Read what `_shared` laid out; the search stops when its time is up or its parent is gone."""
    job = json.loads((folder / SHARED / "job.json").read_text())

    def array(name: str) -> Any:
        return np.load(folder / SHARED / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    features = Features(
        train={name: array(f"train-{k}") for k, name in enumerate(job["layers"])},
        val={name: array(f"val-{k}") for k, name in enumerate(job["layers"])},
        labels=np.array(array("labels")),
        val_labels=np.array(array("val_labels")),
        classes=job["classes"],
    )
    deadline = job["deadline"] or float("inf")
    return Search(
        features=features,
        settings=build(SearchSettings, job["settings"], "search"),
        choices=tuple(tuple(taps) for taps in job["choices"]),
        seed=job["seed"],
        folder=folder,
        stop=lambda: os.getppid() != parent or time.time() > deadline,
    )


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def main(folder: Path, parent: int, threads: int) -> None:
    """Be one worker: Ctrl-C is left to the parent, which ends its workers with SIGTERM."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    torch.set_num_threads(threads)
    try:
        work(load_study(folder), _load(folder, parent))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
