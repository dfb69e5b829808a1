"""Search of the head that does best on features computed once; interrupted and resumed without repeated trials."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from effxfer import progress
from effxfer.errors import SettingsError
from effxfer.files import locked, sweep
from effxfer.search.finalists import SearchResult, conclude
from effxfer.search.objective import Features
from effxfer.search.space import SearchSettings, baseline, tap_choices
from effxfer.search.storage import counts, open_study, revive
from effxfer.search.work import Search, work
from effxfer.search.workers import run_workers

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]
FREE = ("trials", "seconds", "workers", "finalists", "confidence")


def search_head(
    features: Mapping[str, tuple[Matrix, Matrix]],
    labels: tuple[Labels, Labels],
    classes: int,
    *,
    settings: SearchSettings,
    storage_dir: Path,
    seed: int,
) -> SearchResult:
    """Find the head for a task, given the features of its images.

    Trials are judged within the training split; `val` only ranks the finalists, of which the plain linear head is
    always one. Called again after an interruption it does the trials that are missing, then gives the same result.

    Args:
        features: For each layer, its pooled features of the training and of the validation split:
            float32 `(N, D)` and `(M, D)`.
        labels: Of the training and of the validation split: int64 `(N,)` and `(M,)`.
        classes: How many there are, at least 2.
        settings: How to search.
        storage_dir: A folder of its own for the study, locked meanwhile.
        seed: Of everything random.

    Raises:
        DataError: If features contain NaN or infinity or do not fit the labels.
        LockedError: If another search works in `storage_dir`.
        ModelFileError: If `storage_dir` holds a search on other features, or with other settings than
            `trials`, `seconds`, `workers`, `finalists` and `confidence`.
        ResourceError: If the disk is full, or workers die without finishing a trial.
        SettingsError: If `taps` or `max_parameters` cannot be met.
    """
    table = Features(
        train={name: pair[0] for name, pair in features.items()},
        val={name: pair[1] for name, pair in features.items()},
        labels=np.ascontiguousarray(labels[0], dtype=np.int64),
        val_labels=np.ascontiguousarray(labels[1], dtype=np.int64),
        classes=classes,
    )
    choices = tap_choices(settings, list(features))
    deadline = None if settings.seconds is None else time.time() + settings.seconds
    search = Search(
        features=table,
        settings=settings,
        choices=choices,
        seed=seed,
        folder=storage_dir,
        stop=lambda: deadline is not None and time.time() > deadline,
    )
    _check_limit(search)
    with locked(storage_dir), _quiet():
        sweep(storage_dir)
        study = open_study(storage_dir, facts(search))
        _prepare(study, search)
        _run(study, search, deadline)
        return conclude(study, search)


def facts(search: Search) -> dict[str, Any]:
    """List what a study depends on: a resumed search must agree in all of it."""
    settings = {name: value for name, value in search.settings.plain().items() if name not in FREE}
    return settings | {
        "taps": [list(taps) for taps in search.choices],
        "features": search.features.digest(),
        "seed": search.seed,
    }


def _check_limit(search: Search) -> None:
    limit = search.settings.max_parameters
    if limit is not None and search.reference() > limit:
        raise SettingsError(
            f"max_parameters = {limit} is less than the {search.reference()} of the plain linear head",
            "give a higher limit, or put a narrower set of taps first",
        )


def _prepare(study: Any, search: Search) -> None:
    """Give back the trials of dead workers, and see to it that the plain linear head is tried."""
    revive(study)
    plain = baseline(search.choices)
    trials = study.get_trials(deepcopy=False)
    known = (t.system_attrs.get("fixed_params", {}) | t.params for t in trials if t.state.name != "FAIL")
    if plain not in list(known):
        study.enqueue_trial(plain)


def _run(study: Any, search: Search, deadline: float | None) -> None:
    with progress.bar("head search", search.settings.trials) as advance:
        tell = _teller(study, advance)
        tell()
        _run_plain(study, search, tell)
        if search.settings.workers == 1:
            work(study, search, tell)
        else:
            run_workers(study, search, deadline, tell)


def _run_plain(study: Any, search: Search, tell: Callable[[], None]) -> None:
    """See to it that at least the plain linear head is tried, however little time there is."""
    trials = study.get_trials(deepcopy=False)
    if not any(t.state.name == "COMPLETE" for t in trials):
        found = counts(trials)
        one = search.settings.model_copy(update={"trials": found["pruned"] + 1})
        work(study, replace(search, settings=one, stop=lambda: False), tell)


def _teller(study: Any, advance: progress.Advance) -> Callable[[], None]:
    shown = 0

    def tell() -> None:
        nonlocal shown
        trials = study.get_trials(deepcopy=False)
        complete = [t.value for t in trials if t.state.name == "COMPLETE"]
        done = len(complete) + sum(t.state.name == "PRUNED" for t in trials)
        if done != shown:
            advance(done - shown, f"best {100 * max(complete):.2f} %" if complete else "")
            shown = done

    return tell


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from writing to stderr; what it says is in the report."""
    import optuna

    was = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(was)
