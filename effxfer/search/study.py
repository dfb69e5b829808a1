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
from effxfer.files import locked, sweep
from effxfer.search.costs import Costs
from effxfer.search.features import Features
from effxfer.search.finalists import Clocked, Heads, SearchResult, conclude
from effxfer.search.space import SearchSettings, Taps, baseline, starts, tap_choices
from effxfer.search.storage.backends import place_of
from effxfer.search.storage.trials import counts, open_study, revive
from effxfer.search.worker import Search, work
from effxfer.search.worker_pool import run_workers

FREE = (
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


def search_head(
    features: Features,
    *,
    settings: SearchSettings,
    storage_dir: Path,
    seed: int,
    clock: Timekeeper | None = None,
    until: float = float("inf"),
    closing: float = 0.0,
) -> SearchResult:
    """Find the head for a task, given the features of its images.

    Trials are judged within the training split; `val` only ranks the finalists, of which the plain linear head is
    always one. Called again after an interruption it does the trials that are missing, then gives the same result.

    Args:
        features: Of each layer; without maps no head pools. At least 2 classes.
        settings: How to search; its `seconds` count where `until` is not given.
        storage_dir: A folder of its own for the study, locked meanwhile.
        seed: Of everything random.
        clock: Times body and heads; None leaves latency out.
        until: `time.monotonic()` at which all of it is to be done.
        closing: Seconds that the caller needs afterwards.

    Raises:
        DataError: If features contain NaN or infinity or do not fit the labels.
        LockedError: If another search works in `storage_dir`.
        ModelFileError: If `storage_dir` holds a search on other features, or with other settings than
            those of `FREE`.
        ResourceError: If the disk is full, the storage cannot be reached, or workers die without finishing a trial.
        SettingsError: If `taps` or `max_parameters` cannot be met.
    """
    if math.isinf(until) and settings.seconds is not None:
        until = time.monotonic() + settings.seconds
    if not features.train_maps:
        settings = settings.model_copy(update={"pools": ("mean",)})
    search = Search(
        features=features,
        settings=settings,
        choices=tap_choices(settings, list(features.train)),
        seed=seed,
        folder=storage_dir,
        until=until,
        closing=closing,
        given=place_of(settings.storage, storage_dir),
    )
    _check_limit(search)
    search.place.check()
    with locked(storage_dir), _quiet():
        sweep(storage_dir)
        place = search.place
        try:
            progress.remark(place.mend())
            study = open_study(place, facts(search))
            costs = timed(study, search, clock)
            if clock and costs:
                search = replace(search, costs=costs, closing=closing + clock.closing())
            _prepare(study, search)
            _run(study, search)
            return conclude(study, search, clock.finalists if clock and costs else None)
        finally:
            place.close()


class Timekeeper(Protocol):
    """Times what is exported."""

    def costs(self, choices: Sequence[Taps], until: float) -> Costs | None:
        """Time the body cut at sets of layers, and some heads; None if it cannot be done `until` then."""

    def closing(self) -> float:
        """Guess the seconds that `finalists` takes."""

    def finalists(self, heads: Heads, plain: int) -> Mapping[int, Clocked]:
        """Time whole networks with heads, by their number, against the one with the plain linear head."""


def timed(study: Any, search: Search, clock: Timekeeper | None) -> Costs | None:
    """Take latencies from the study, or measure them, once for all who work on it."""
    if clock is None:
        return None
    with search.place.claiming():
        known = study.user_attrs.get("costs")
        if known is None:
            found = clock.costs(search.choices, search.until - search.closing)
            known = found.plain() if found else {}
            study.set_user_attr("costs", known)
    return Costs.from_plain(known) if known else None


def facts(search: Search) -> dict[str, Any]:
    """List what a study depends on: a resumed search must agree in all of it.

    Features that other machines compute differ in their last digits: of those, labels and shapes must agree.
    """
    settings = {name: value for name, value in search.settings.plain().items() if name not in FREE}
    return settings | {
        "taps": [list(taps) for taps in search.choices],
        "features": search.features.shape() if search.place.shared else search.features.digest(),
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
    """Give back the trials of dead workers, and see to it that the plain linear head and its like are tried first."""
    revive(study, search.place)
    with search.place.claiming():
        trials = study.get_trials(deepcopy=False)
        known = [t.system_attrs.get("fixed_params", {}) | t.params for t in trials if t.state.name != "FAIL"]
        first = starts(search.settings, search.choices)
        begun = any(t.state.name != "WAITING" for t in trials)
        for params in first[:1] if begun else first:
            if params not in known:
                study.enqueue_trial(params)


def _run(study: Any, search: Search) -> None:
    total = search.settings.trials or search.settings.most
    with progress.bar("head search", total if search.settings.seconds is None else 0) as advance:
        tell = _teller(study, advance)
        tell()
        _run_plain(study, search, tell)
        if search.settings.workers == 1:
            work(study, search, tell)
        else:
            run_workers(study, search, tell)


def _run_plain(study: Any, search: Search, tell: Callable[[], None]) -> None:
    """See to it that at least the plain linear head is tried, however little time there is."""
    trials = study.get_trials(deepcopy=False)
    if not any(t.state.name == "COMPLETE" and t.params == baseline(search.choices) for t in trials):
        found = counts(trials, search.place)
        one = search.settings.model_copy(update={"trials": found["complete"] + found["pruned"] + found["running"] + 1})
        work(study, replace(search, settings=one, stop=lambda: False, until=float("inf")), tell)


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
