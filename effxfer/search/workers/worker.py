"""One worker: runs trials of a study, one after the other, until the budget is used up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from effxfer.errors import out_of_memory
from effxfer.process.timing_lock import pause_for_timing
from effxfer.search.costs import Costs
from effxfer.search.features import Features
from effxfer.search.head_training import judge, rungs, size_penalty
from effxfer.search.inputs import Rows
from effxfer.search.judging.folds import feature_folds
from effxfer.search.judging.metrics import metric_of
from effxfer.search.space import Candidate, SearchSettings, Taps, baseline, read, starts, suggest
from effxfer.search.storage.backends import StorageBackend, backend_of
from effxfer.search.storage.trials import ask, counts, owner, requeue_stale_locked
from effxfer.search.workers.sampling import MAX_REFUSALS, derive_seed, make_pruner, make_sampler
from effxfer.train.optim.gradients import DivergedError

POLL = 0.2  # chosen: seconds; a trial takes half a second and more


class StoppedError(Exception):
    """The search's time is up, or the process that started this worker is gone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """The search as every worker needs it.

    Attributes:
        features: Inputs of heads, of both splits.
        settings: Settings of the search.
        choices: Sets of layers to choose from.
        seed: Random seed of the whole search.
        folder: For logs, and the journal that is the search's own.
        stop: Whether to stop; called after every epoch.
        costs: Measured latencies; None if latency is not measured.
        until: `time.monotonic()` at which all is to be done, with finalists trained; infinite without a limit.
        reserve: Seconds to reserve before `until` for work that does not depend on trials.
        open_backend: The storage backend, if one is open already.
    """

    features: Features
    settings: SearchSettings
    choices: tuple[Taps, ...]
    seed: int
    folder: Path
    stop: Callable[[], bool] = lambda: False
    costs: Costs | None = None
    until: float = float("inf")
    reserve: float = 0.0
    open_backend: StorageBackend | None = None

    @cached_property
    def backend(self) -> StorageBackend:
        """Where trials are stored."""
        return self.open_backend or backend_of(self.settings.storage, self.folder)

    @property
    def metric(self) -> str:
        """The metric to maximise."""
        return metric_of(self.features.output, self.settings.metric)

    def folds(self) -> list[tuple[Rows, Rows]]:
        """Split the training split into folds; the same for every trial."""
        return feature_folds(self.features, self.settings.folds, self.seed)

    def reference(self) -> int:
        """Count the parameters of the plain linear head."""
        from effxfer.net.heads.spec import HeadSpec

        return self.features.parameters(HeadSpec(kind="linear"), self.choices[0])

    def penalty(self, candidate: Candidate) -> float:
        """Penalty on a head's metric for its size and its latency."""
        slow = 0.0
        if self.costs:
            slow = self.settings.latency_weight * math.log2(self.ratio(candidate))
        return size_penalty(self.features, candidate, self.settings, self.reference()) + slow

    def ratio(self, candidate: Candidate) -> float:
        """Modelled latency of the network with a head over that with the plain linear one; 1 without `costs`."""
        if not self.costs:
            return 1.0
        plain = read(baseline(self.choices), self.settings, self.choices)
        candidate_ms, linear_ms = (
            self.costs.ms(c, self.features.parameters(c.spec, c.taps)) for c in (candidate, plain)
        )
        return candidate_ms / linear_ms


def trial_seed(seed: int, params: dict[str, Any]) -> int:
    """Seed a trial's training by its parameters, so that training them again gives the same head."""
    return derive_seed(seed, params)


def run_trials(study: Any, search: Search, after_trial: Callable[[], None] = lambda: None) -> None:
    """Run trials until the budget or the time is used up, or `search.stop` returns true.

    Args:
        study: The Optuna study.
        search: The search.
        after_trial: Called after each trial.
    """
    # Once for all trials: the cut sorts all labels.
    folds, backend = search.folds(), search.backend
    study.pruner = make_pruner(search.settings)
    while not out_of_time(study, search):
        pause_for_timing()
        claim = next_trial(study, search, backend)
        if claim:
            try:
                run_trial(study, search, *claim, folds=folds)
            except StoppedError:
                return
            after_trial()
        elif counts(study.get_trials(deepcopy=False), backend)["running"]:
            time.sleep(POLL)  # one that dies leaves a trial to run again
        else:
            return


def out_of_time(study: Any, search: Search) -> bool:
    """Whether to stop: the work after the trials takes all the remaining time."""
    return search.stop() or time.monotonic() + reserved_seconds(study, search) > search.until


def reserved_seconds(study: Any, search: Search) -> float:
    """Estimate the seconds between the last trial and the end; 0 without a time limit."""
    return 0.0 if math.isinf(search.until) else search.reserve + estimate_finalist_seconds(study, search)


def estimate_finalist_seconds(study: Any, search: Search) -> float:
    """Estimate the training time of the finalists from the time that each took on its folds."""
    folds = len(search.folds())
    # A trial of n folds trains on n - 1 times the training split, a finalist on it once.
    share = 1.0 if folds == 1 else 1 / (folds - 1)
    complete = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    # By the best trials, which will be the finalists: heads differ in cost by a factor of ten and more.
    best = sorted(complete, key=lambda t: -t.value)[: search.settings.finalists]
    seconds = [float(t.user_attrs["seconds"]) * share for t in best]
    return 1.1 * sum(seconds)  # a tenth more: a machine is seldom as idle as it was


def next_trial(study: Any, search: Search, backend: StorageBackend) -> tuple[Any, Candidate] | None:
    """Begin the next trial of the budget, under a lock between workers; None if the budget is used up.

    The sampler's seed depends on how many trials came before and not on who asks: workers differ from each other, and
    an interrupted search goes on with the trials that it would have had. A repeated, too large or too slow head is
    refused. The trials of dead workers are run again.
    """
    from optuna.trial import TrialState

    with backend.claim_lock():
        requeue_stale_locked(study, backend)
        for attempt in range(MAX_REFUSALS):
            # Read anew at each attempt: other workers finish trials meanwhile.
            number = counts(study.get_trials(deepcopy=False), backend)
            slot = number["complete"] + number["pruned"] + number["running"]
            if slot >= search.settings.max_trials:
                return None
            # With a fixed seed, resumed searches repeat their trials: 9 of 9 with RandomSampler, measured.
            study.sampler = make_sampler(search.settings, search.seed, slot, attempt)
            trial = ask(study)
            trial.set_user_attr("owner", owner(backend))
            candidate = suggest(trial, search.settings, search.choices)
            reason = refusal_reason(study, trial, candidate, search)
            if not reason:
                trial.set_user_attr("accepted", True)
                return trial, candidate
            trial.set_user_attr("refused", reason)
            # Failed and not pruned: what was never trained must not teach the sampler.
            study.tell(trial, state=TrialState.FAIL)
    return None


def refusal_reason(study: Any, trial: Any, candidate: Candidate, search: Search) -> str:
    """Why a trial is not run: `repeated`, `too large`, `too slow`; empty if it is run."""
    earlier = (t for t in study.get_trials(deepcopy=False) if t.number != trial.number)
    if any(t.params == trial.params for t in earlier if t.state.name in {"COMPLETE", "PRUNED", "RUNNING"}):
        return "repeated"
    limit, ratio = search.settings.max_parameters, search.settings.max_latency_ratio
    if limit is not None and search.features.parameters(candidate.spec, candidate.taps) > limit:
        return "too large"
    # The plain head's own ratio is 1, which a limit below 1 would refuse.
    plain = trial.params == baseline(search.choices)
    return "too slow" if not plain and ratio is not None and search.ratio(candidate) > ratio else ""


def run_trial(
    study: Any, search: Search, trial: Any, candidate: Candidate, *, folds: list[tuple[Rows, Rows]]
) -> None:  # fmt: skip
    """Train and score one head, and report the result to the study.

    A head that diverges or does not fit into memory counts as stopped early. Any other
    interruption leaves a lost trial, which `requeue_stale` queues again.
    """
    from optuna import TrialPruned
    from optuna.trial import TrialState

    started, penalty = time.monotonic(), search.penalty(candidate)
    try:
        with _memory_errors():
            value = judge(
                search.features,
                candidate,
                search.settings,
                folds=folds,
                penalty=penalty,
                seed=trial_seed(search.seed, trial.params),
                report=_report_function(trial, search),
                check=_check_function(study, trial, search),
            )
    # Pruned and not failed: TPE then avoids the region, and the trial is not run again.
    except (TrialPruned, DivergedError, MemoryError) as reason:
        trial.set_user_attr("stopped", type(reason).__name__)
        study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
    # Also Ctrl-C: without it the trial would stay running until its lock is found free.
    except BaseException:  # raised again: whatever ends the trial, a signal too, others must not take it for running
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        raise
    else:
        trial.set_user_attr("metric", value + penalty)
        trial.set_user_attr("ratio", search.ratio(candidate))
        trial.set_user_attr("seconds", round(time.monotonic() - started, 3))
        study.tell(trial, value, skip_if_finished=True)


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn torch's way of saying that memory is short into a `MemoryError`."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise MemoryError(str(error)) from None
        raise


def _report_function(trial: Any, search: Search) -> Callable[[int, float], None]:
    """Report to Optuna; linear heads that represent a pool or an early exit are never pruned: the front needs them."""
    from optuna import TrialPruned

    protected = trial.params in starts(search.settings, search.choices)

    def report(epoch: int, value: float) -> None:
        trial.report(value, epoch)
        # At the last rung all is done already: the value is worth keeping.
        if not protected and epoch != rungs(search.settings.epochs)[-1] and trial.should_prune():
            raise TrialPruned

    return report


def _check_function(study: Any, trial: Any, search: Search) -> Callable[[], None]:
    """Stop a trial when time is up; the plain linear head runs to its end."""
    protected, reserve = trial.params == baseline(search.choices), reserved_seconds(study, search)

    def check() -> None:
        if not protected and (search.stop() or time.monotonic() + reserve > search.until):
            raise StoppedError

    return check


def candidate_of(trial: Any, search: Search) -> Candidate:
    """Read the head of a finished trial."""
    return read(trial.params, search.settings, search.choices)
