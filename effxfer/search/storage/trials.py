"""The study, wherever it is kept: its trials are never lost for good.

Optuna keeps the trials of dead workers running for ever; `revive` gives them back.
"""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import Any

from effxfer.errors import ModelFileError
from effxfer.files import digest
from effxfer.search.storage.backends import Place, hold_own

STUDY = "head"
MAX_RETRIES = 3


def open_study(place: Place, facts: dict[str, Any]) -> Any:
    """Open a study, or make it.

    Args:
        place: Where it is kept. A place that is shared may hold other studies, with other facts.
        facts: What the search depends on; kept with the study.

    Raises:
        ModelFileError: If a place that is not shared holds a search with other facts.
    """
    import optuna

    storage = place.open()
    with place.claiming():
        name = name_of(place, facts)
        if any(found.study_name == name for found in storage.get_all_studies()):
            study = optuna.load_study(storage=storage, study_name=name)
        else:
            study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
        known = study.user_attrs.get("facts")
        if known is None:
            study.set_user_attr("facts", facts)
        elif known != facts:
            changed = sorted(key for key in facts.keys() | known.keys() if facts.get(key) != known.get(key))
            raise ModelFileError(
                f"{place.name} holds a search that differs in {', '.join(changed)}",
                "give another folder, or remove this one",
            )
    return study


def name_of(place: Place, facts: dict[str, Any]) -> str:
    """Name the study of a search: by its facts where others are kept as well."""
    return f"{STUDY}-{digest(facts)}" if place.shared else STUDY


def load_study(place: Place, name: str = STUDY) -> Any:
    """Open a study that another process has made."""
    import optuna

    return optuna.load_study(storage=place.open(), study_name=name)


def revive(study: Any, place: Place) -> int:
    """Give back the trials that nobody works on any more.

    A running trial whose worker is dead becomes failed. The parameters of every lost trial (failed without the mark
    `refused`) are queued again, each at most 3 times in a row; doing it twice does no more than doing it once. A trial
    lost before it was `accepted` knows only a part of its parameters: the sampler will draw it again, whole.

    Returns:
        How many trials were queued.
    """
    with place.claiming():
        return revive_claiming(study, place)


def revive_claiming(study: Any, place: Place) -> int:
    """Do what `revive` does, where nobody else can claim a trial meanwhile."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if not is_alive(place, trial.user_attrs.get("owner")):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get("retry_of") for trial in trials}
    lost = [
        t for t in trials if is_lost(t) and t.number not in retried and t.user_attrs.get("retries", 0) < MAX_RETRIES
    ]
    queued = 0
    for trial in lost:
        params = trial.system_attrs.get("fixed_params", {})
        if "accepted" in trial.user_attrs:
            params = params | trial.params
        if params:
            marks = {"retry_of": trial.number, "retries": trial.user_attrs.get("retries", 0) + 1, "turn": turn(trial)}
            study.enqueue_trial(params, user_attrs=marks)
            queued += 1
    return queued


def ask(study: Any) -> Any:
    """Begin a trial: of those that wait, the one whose turn it is; the trials of a resumed search keep their order.

    Optuna would begin one that was queued again after all others, which a short search never comes to.
    """
    study._pop_waiting_trial_id = partial(_begin_waiting, study)
    return study.ask()


def _begin_waiting(study: Any) -> int | None:
    from optuna.trial import TrialState

    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    if not waiting:
        return None
    first: int = min(waiting, key=turn)._trial_id
    study._storage.set_trial_state_values(first, state=TrialState.RUNNING)
    return first


def turn(trial: Any) -> int:
    """The number of a trial, or of the one that it takes up again."""
    return int(trial.user_attrs.get("turn", trial.number))


def is_lost(trial: Any) -> bool:
    """Whether a trial ended without a result because its worker was killed or interrupted."""
    return bool(trial.state.name == "FAIL" and "refused" not in trial.user_attrs)


def counts(trials: list[Any], place: Place | None = None) -> dict[str, int]:
    """Count trials: `complete`, `pruned`, `running` (by live workers; 0 without a place to ask), `refused`, `lost`."""
    running = [t for t in trials if t.state.name == "RUNNING"]
    return {
        "complete": sum(t.state.name == "COMPLETE" for t in trials),
        "pruned": sum(t.state.name == "PRUNED" for t in trials),
        "running": sum(is_alive(place, t.user_attrs.get("owner")) for t in running) if place else 0,
        "refused": sum("refused" in t.user_attrs for t in trials),
        "lost": sum(is_lost(t) for t in trials),
    }


def owner(place: Place) -> dict[str, Any]:
    """Say who this process is: host, pid, and the lock that it holds."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "lock": hold_own(place)}


def is_alive(place: Place, who: dict[str, Any] | None) -> bool:
    """Whether the process that `owner` described still runs, on whatever machine."""
    return bool(who) and place.is_held(who["lock"])  # type: ignore[index]
