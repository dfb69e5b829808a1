"""The study in its storage: no trial is lost for good, and none is repeated.

Optuna leaves the trials of dead workers running. Its heartbeat would find them, but only `RDBStorage` has one, and its
documentation says that it does not work with `ask` and `tell`. So `requeue_stale` finds them by the locks of workers,
in a journal as in a database, and hands them to Optuna's own callback for retries.
"""

from __future__ import annotations

import os
import socket
import warnings
from copy import deepcopy
from functools import partial
from typing import Any

from effxfer.errors import ModelFileError
from effxfer.files import digest
from effxfer.search.storage.backends import StorageBackend, lock_of_process

STUDY = "head"
MAX_RETRIES = 3  # a trial that kills every worker that runs it must not stall the search


def open_study(backend: StorageBackend, facts: dict[str, Any]) -> Any:
    """Open a study, or create it.

    Args:
        backend: Storage of the study. A shared one may contain other studies, with other facts.
        facts: All inputs of the search, stored with the study.

    Raises:
        ModelFileError: If a backend that is not shared holds a search with other facts.
    """
    import optuna

    storage = backend.open()
    # Under the lock: four processes that create a study at once crashed two or three of them (SQLite, measured).
    with backend.claim_lock():
        name = study_name(backend, facts)
        if any(study.study_name == name for study in storage.get_all_studies()):
            study = optuna.load_study(storage=storage, study_name=name)
        else:
            study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
        stored = study.user_attrs.get("facts")
        if stored is None:
            study.set_user_attr("facts", facts)
        elif stored != facts:
            changed = sorted(key for key in facts.keys() | stored.keys() if facts.get(key) != stored.get(key))
            raise ModelFileError(
                f"{backend.name} holds a search that differs in {', '.join(changed)}",
                "give another folder, or remove this one",
            )
    return study


def study_name(backend: StorageBackend, facts: dict[str, Any]) -> str:
    """Name the study of a search: by its facts where other searches have theirs as well."""
    return f"{STUDY}-{digest(facts)}" if backend.shared else STUDY


def load_study(backend: StorageBackend, name: str = STUDY) -> Any:
    """Open a study that another process has created."""
    import optuna

    return optuna.load_study(storage=backend.open(), study_name=name)


def requeue_stale(study: Any, backend: StorageBackend) -> int:
    """Queue the trials again whose workers died.

    A running trial whose worker is dead becomes failed. Every lost trial (failed without the mark `refused`) is queued
    again, at most 3 times in a row; a second call queues nothing more.

    Returns:
        How many trials were queued.
    """
    with backend.claim_lock():
        return requeue_stale_locked(study, backend)


def requeue_stale_locked(study: Any, backend: StorageBackend) -> int:
    """Do what `requeue_stale` does, for a caller that has the claim lock."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not is_alive(backend, trial.user_attrs.get("owner")):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    trials = study.get_trials(deepcopy=False)
    # Lost trials that were queued again already.
    retried = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
    stale = [trial for trial in trials if is_lost(trial) and trial.number not in retried]
    for trial in stale:
        # Of the others nothing is known that could be repeated: the sampler will draw anew.
        if "accepted" in trial.user_attrs or "fixed_params" in trial.system_attrs:
            _retry_callback()(study, _template(trial))
    return len(study.get_trials(deepcopy=False)) - len(trials)


def _retry_callback() -> Any:
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES)


def _template(trial: Any) -> Any:
    """Copy a trial for another run.

    A trial lost before it was `accepted` has only some of its parameters: they are drawn again, all of them together.
    The copy is deep, since the callback appends to the list of retries that Optuna caches.
    """
    template = deepcopy(trial)
    accepted = "accepted" in trial.user_attrs
    template.user_attrs = {"accepted": True} if accepted else {}
    if not accepted:
        template.params, template.distributions = {}, {}
    return template


def ask(study: Any) -> Any:
    """Begin a trial: of those that wait the first one, so that a resumed search has the order of an uninterrupted one.

    Optuna would begin a retried trial after all others, which a search with a small budget never reaches. It has no
    public way to choose among waiting trials.
    """
    study._pop_waiting_trial_id = partial(_begin_waiting, study)
    return study.ask()


def _begin_waiting(study: Any) -> int | None:
    from optuna.trial import TrialState

    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if not waiting:
        return None
    # By the number of the trial that it repeats: a retried one comes first.
    first: int = min(waiting, key=original_number)._trial_id
    study._storage.set_trial_state_values(first, state=TrialState.RUNNING)
    return first


def original_number(trial: Any) -> int:
    """The number of a trial, or of the lost one that it repeats."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def is_lost(trial: Any) -> bool:
    """Whether a trial ended without a result because its worker was killed or interrupted."""
    return bool(trial.state.name == "FAIL" and "refused" not in trial.user_attrs)


def counts(trials: list[Any], backend: StorageBackend | None = None) -> dict[str, int]:
    """Count trials: `complete`, `pruned`, `running` (by live workers; 0 without a backend), `refused`, `lost`."""
    running = [t for t in trials if t.state.name == "RUNNING"]
    return {
        "complete": sum(t.state.name == "COMPLETE" for t in trials),
        "pruned": sum(t.state.name == "PRUNED" for t in trials),
        "running": sum(is_alive(backend, t.user_attrs.get("owner")) for t in running) if backend else 0,
        "refused": sum("refused" in t.user_attrs for t in trials),
        "lost": sum(is_lost(t) for t in trials),
    }


def owner(backend: StorageBackend) -> dict[str, Any]:
    """Identify this process: its host, its pid, and the lock that it has."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "lock": lock_of_process(backend)}


def is_alive(backend: StorageBackend, worker: dict[str, Any] | None) -> bool:
    """Whether the process that `owner` identified still runs, on whatever machine."""
    return bool(worker) and backend.is_locked(worker["lock"])  # type: ignore[index]
