"""Search of the head that does best on features computed once; interrupted and resumed without repeated trials."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from effxfer import progress
from effxfer.errors import SettingsError
from effxfer.files import remove_abandoned
from effxfer.process.folder_lock import lock_folder
from effxfer.runtime.outputs.regression import Regression
from effxfer.search.costs import Costs
from effxfer.search.features import Features
from effxfer.search.finalist import Heads, LatencyRatio, SearchResult
from effxfer.search.finalists import Finals, conclude
from effxfer.search.judging.metrics import metric_of
from effxfer.search.space import SearchSettings, Taps, baseline, starts, tap_choices
from effxfer.search.storage.backends import backend_of
from effxfer.search.storage.trials import counts, open_study, requeue_stale
from effxfer.search.workers.worker import Search, run_trials
from effxfer.search.workers.worker_pool import run_workers

# They change how long and where a search runs, not which trials it draws.
RESUMABLE = (  # settings that may change when a search goes on
    "trials",
    "seconds",
    "workers",
    "finalists",
    "confidence",
    "storage",
    "prefer",
    "max_drop",
    "threads",
    "cache_mb",
)


def search_head(features: Features, **arguments: Any) -> SearchResult:
    """Search the best head for a task; see `search_finalists` for arguments and errors."""
    return search_finalists(features, **arguments).best()


def search_finalists(
    features: Features,
    *,
    settings: SearchSettings,
    storage_dir: Path,
    seed: int,
    meter: LatencyMeter | None = None,
    until: float = float("inf"),
    reserve: float = 0.0,
    label: str = "head search",
) -> Finals:
    """Search the best heads for a task on the features of its examples.

    Trials are judged within the training split; `val` only ranks the finalists, of which the plain linear head is
    always one. Called again after an interruption it does the trials that are missing, then gives the same result.

    Args:
        features: Features of each layer, with labels of any kind; without maps, no head pools.
        settings: Settings of the search; its `seconds` are the limit if `until` is infinite.
        storage_dir: A folder of its own for the study, locked meanwhile.
        seed: Random seed.
        meter: Times body and heads; None leaves latency out.
        until: `time.monotonic()` at which all of it must end.
        reserve: Seconds to reserve for work of the caller.
        label: Name of the progress bar.

    Raises:
        DataError: If features contain NaN or infinity or do not fit the labels.
        LockedError: If another search works in `storage_dir`.
        ModelFileError: If `storage_dir` holds a search on other features, or with other settings than
            those of `RESUMABLE`.
        ResourceError: If the disk is full, the storage cannot be reached, or workers die without finishing a trial.
        SettingsError: If `taps` or `max_parameters` cannot be met, or `metric` is not for this kind of label.
    """
    if math.isinf(until) and settings.seconds is not None:
        until = time.monotonic() + settings.seconds
    settings = settings.model_copy(update=_limits(features, settings))
    search = Search(
        features=features,
        settings=settings,
        choices=tap_choices(settings, list(features.train)),
        seed=seed,
        folder=storage_dir,
        until=until,
        reserve=reserve,
        open_backend=backend_of(settings.storage, storage_dir),
    )
    _check_limit(search)
    search.backend.check()
    with lock_folder(storage_dir), _silence_optuna():
        remove_abandoned(storage_dir)
        try:
            # Before anything opens the study: Optuna refuses a damaged journal.
            progress.remark(search.backend.repair())
            study = open_study(search.backend, facts(search))
            # After the study is open and before any trial: all of its trials are compared by the same latencies.
            costs = stored_costs(study, search, meter)
            if meter and costs:
                search = replace(search, costs=costs, reserve=reserve + meter.finalist_seconds())
            _prepare(study, search)
            _run(study, search, label)
            return conclude(study, search, meter.time_finalists if meter and costs else None)
        finally:
            search.backend.close()


def _limits(features: Features, settings: SearchSettings) -> dict[str, Any]:
    """Return the settings that features and labels decide."""
    limits: dict[str, Any] = {"metric": metric_of(features.output, settings.metric)}
    if not features.train_maps:
        # No maps (a body that ends in a vector): all pools of a vector are its mean.
        limits["pools"] = ("mean",)
    if isinstance(features.output, Regression):
        limits["kinds"] = tuple(kind for kind in settings.kinds if kind != "cosine") or ("linear",)
    return limits


class LatencyMeter(Protocol):
    """Measures the latency of exported graphs."""

    def costs(self, choices: Sequence[Taps], until: float) -> Costs | None:
        """Time the body cut at sets of layers, and some heads; None if that would end after `until`."""

    def finalist_seconds(self) -> float:
        """Estimate the seconds that `time_finalists` takes."""

    def time_finalists(self, heads: Heads, plain: int) -> Mapping[int, LatencyRatio]:
        """Time whole networks with heads, by their number, against the one with the plain linear head."""


def stored_costs(study: Any, search: Search, meter: LatencyMeter | None) -> Costs | None:
    """Read latencies from the study, or measure them, once for all machines that work on it."""
    if meter is None:
        return None
    # Under the lock: a second machine waits, instead of measuring other latencies.
    with search.backend.claim_lock():
        stored = study.user_attrs.get("costs")
        if stored is None:
            costs = meter.costs(search.choices, search.until - search.reserve)
            stored = costs.plain() if costs else {}
            study.set_user_attr("costs", stored)
    return Costs.from_plain(stored) if stored else None


def facts(search: Search) -> dict[str, Any]:
    """List what a study depends on: a resumed search must agree in all of it.

    Features computed by other machines differ in their last digits: only their labels and shapes must agree.
    """
    settings = {name: value for name, value in search.settings.plain().items() if name not in RESUMABLE}
    return settings | {
        "taps": [list(taps) for taps in search.choices],
        "features": search.features.shape() if search.backend.shared else search.features.digest(),
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
    """Queue the trials of dead workers again, and the plain linear head and its variants before all others."""
    requeue_stale(study, search.backend)
    with search.backend.claim_lock():
        trials = study.get_trials(deepcopy=False)
        # What waits has only its fixed parameters, what began all of them.
        queued = [t.system_attrs.get("fixed_params", {}) | t.params for t in trials if t.state.name != "FAIL"]
        first = starts(search.settings, search.choices)
        begun = any(t.state.name != "WAITING" for t in trials)
        # In a search that has begun, the others were queued or are no longer worth it; the baseline is needed.
        for params in first[:1] if begun else first:
            if params not in queued:
                study.enqueue_trial(params)


def _run(study: Any, search: Search, label: str) -> None:
    total = search.settings.trials or search.settings.max_trials
    with progress.bar(label, total if search.settings.seconds is None else 0) as advance:
        show_progress = _progress_function(study, advance)
        show_progress()
        _run_plain(study, search, show_progress)
        if search.settings.workers == 1:
            run_trials(study, search, show_progress)
        else:
            run_workers(study, search, show_progress)


def _run_plain(study: Any, search: Search, show_progress: Callable[[], None]) -> None:
    """Run the plain linear head at least, however short the time is."""
    trials = study.get_trials(deepcopy=False)
    if not any(t.state.name == "COMPLETE" and t.params == baseline(search.choices) for t in trials):
        number = counts(trials, search.backend)
        # One more than there are, whatever `trials` says.
        budget = number["complete"] + number["pruned"] + number["running"] + 1
        settings = search.settings.model_copy(update={"trials": budget})
        run_trials(study, replace(search, settings=settings, stop=lambda: False, until=float("inf")), show_progress)


def _progress_function(study: Any, advance: progress.Advance) -> Callable[[], None]:
    shown = 0

    def show_progress() -> None:
        nonlocal shown
        trials = study.get_trials(deepcopy=False)
        complete = [t.value for t in trials if t.state.name == "COMPLETE"]
        finished = len(complete) + sum(t.state.name == "PRUNED" for t in trials)
        if finished != shown:
            advance(finished - shown, f"best {100 * max(complete):.2f} %" if complete else "")
            shown = finished

    return show_progress


@contextmanager
def _silence_optuna() -> Iterator[None]:
    """Keep Optuna from writing to stderr; its messages are in the report."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    # Optuna logs every trial to stderr, where the progress bar is.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
