"""One worker: claims trials of a study, one after the other, until the budget is used up."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from effxfer.files import digest
from effxfer.search.objective import DivergedError, Features, Rows, fold_rows, judge, rungs, size_penalty
from effxfer.search.space import Candidate, SearchSettings, Taps, baseline, read, suggest
from effxfer.search.storage import counts, is_lost, owner

MAX_REFUSALS = 200


class StoppedError(Exception):
    """The search's time is up, or the process that started this worker is gone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """What every worker of a search knows.

    Attributes:
        features: What heads are trained and judged on.
        settings: How the search runs.
        choices: Sets of layers to choose from.
        seed: Of the whole search.
        folder: Where the journal lies.
        stop: Whether to stop; asked between the epochs at which a trial is judged.
    """

    features: Features
    settings: SearchSettings
    choices: tuple[Taps, ...]
    seed: int
    folder: Path
    stop: Callable[[], bool] = lambda: False

    def folds(self) -> list[tuple[Rows, Rows]]:
        """Cut the training split; the same for every trial."""
        return fold_rows(self.features.labels, self.settings.folds, self.seed)

    def reference(self) -> int:
        """Count the parameters of the plain linear head."""
        from effxfer.net.heads import HeadSpec, head_parameters

        return head_parameters(HeadSpec(kind="linear"), self.features.width(self.choices[0]), self.features.classes)


def derive_seed(*parts: object) -> int:
    """Make a seed below 2^31 out of plain values."""
    return int(digest(list(parts)), 16) % 2**31


def trial_seed(seed: int, params: dict[str, Any]) -> int:
    """Seed a trial's training by its parameters, so that training them again gives the same head."""
    return derive_seed(seed, params)


def work(study: Any, search: Search, finished: Callable[[], None] = lambda: None) -> None:
    """Claim and run trials until the budget is used up or `search.stop` says so.

    Args:
        study: The Optuna study.
        search: What it is about.
        finished: Called after each trial.
    """
    folds, reference = search.folds(), search.reference()
    study.pruner = make_pruner(search.settings)
    while not search.stop() and (claimed := claim(study, search)):
        try:
            run_trial(study, search, *claimed, folds=folds, reference=reference)
        except StoppedError:
            return
        finished()


def claim(study: Any, search: Search) -> tuple[Any, Candidate] | None:
    """Take the next trial of the budget, under a lock between workers; None if there is none left.

    The sampler's seed depends on how many trials came before and not on who asks: workers differ from each other, and
    an interrupted search goes on with the trials that it would have had. A repeated or too large head is refused.
    """
    from filelock import FileLock
    from optuna.trial import TrialState

    with FileLock(search.folder / ".claim.guard"):
        for attempt in range(MAX_REFUSALS):
            done = counts(study.get_trials(deepcopy=False))
            slot = done["complete"] + done["pruned"] + done["running"]
            if slot >= search.settings.trials:
                return None
            study.sampler = make_sampler(search, slot, attempt)
            trial = study.ask()
            trial.set_user_attr("owner", owner())
            candidate = suggest(trial, search.settings, search.choices)
            reason = refusal(study, trial, candidate, search)
            if not reason:
                trial.set_user_attr("accepted", True)
                return trial, candidate
            trial.set_user_attr("refused", reason)
            study.tell(trial, state=TrialState.FAIL)
    return None


def refusal(study: Any, trial: Any, candidate: Candidate, search: Search) -> str:
    """Say why a trial is not worth running: `repeated`, `too large`, or nothing."""
    from effxfer.net.heads import head_parameters

    others = (t for t in study.get_trials(deepcopy=False) if t.number != trial.number)
    if any(t.params == trial.params for t in others if t.state.name in {"COMPLETE", "PRUNED", "RUNNING"}):
        return "repeated"
    features = search.features
    size = head_parameters(candidate.spec, features.width(candidate.taps), features.classes)
    limit = search.settings.max_parameters
    return "too large" if limit is not None and size > limit else ""


def run_trial(
    study: Any, search: Search, trial: Any, candidate: Candidate, *, folds: list[tuple[Rows, Rows]], reference: int
) -> None:
    """Train and judge one head, and tell the study.

    A head that diverges or does not fit into memory counts as stopped early. Whatever else interrupts it leaves a lost
    trial, which `revive` queues again.
    """
    from optuna import TrialPruned
    from optuna.trial import TrialState

    started = time.monotonic()
    try:
        with _memory_errors():
            value = judge(
                search.features,
                candidate,
                search.settings,
                folds=folds,
                reference=reference,
                seed=trial_seed(search.seed, trial.params),
                report=_reporter(trial, search),
            )
    except (TrialPruned, DivergedError, MemoryError) as reason:
        trial.set_user_attr("stopped", type(reason).__name__)
        study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
    except BaseException:
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        raise
    else:
        penalty = size_penalty(search.features, candidate, search.settings, reference)
        trial.set_user_attr("metric", value + penalty)
        trial.set_user_attr("seconds", round(time.monotonic() - started, 3))
        study.tell(trial, value, skip_if_finished=True)


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn torch's way of saying that memory is short into a `MemoryError`."""
    from effxfer.train.memory import ran_out

    try:
        yield
    except RuntimeError as error:
        if ran_out(error):
            raise MemoryError(str(error)) from None
        raise


def _reporter(trial: Any, search: Search) -> Callable[[int, float], None]:
    """Report to Optuna; the plain linear head runs to its end whatever happens."""
    from optuna import TrialPruned

    protected = trial.params == baseline(search.choices)

    def report(epoch: int, value: float) -> None:
        trial.report(value, epoch)
        if protected or epoch == rungs(search.settings.epochs)[-1]:
            return
        if search.stop():
            raise StoppedError
        if trial.should_prune():
            raise TrialPruned

    return report


def make_sampler(search: Search, slot: int, attempt: int) -> Any:
    """Make the sampler of one trial: multivariate TPE (https://arxiv.org/abs/2304.11127), random at first."""
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import RandomSampler, TPESampler

    seed = derive_seed(search.seed, slot, attempt)
    if slot <= search.settings.startup or attempt > MAX_REFUSALS // 2:
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=seed, n_startup_trials=0, multivariate=True, group=True, constant_liar=True)


class WithoutLost:
    """A pruner or study that does not see lost trials: what they reported counts when they are run again, not twice."""

    def __init__(self, what: Any) -> None:
        self._what = what

    def __getattr__(self, name: str) -> Any:
        return getattr(self._what, name)

    def prune(self, study: Any, trial: Any) -> bool:
        """Decide as Optuna's pruner does."""
        return bool(self._what.prune(WithoutLost(study), trial))

    def get_trials(self, **how: Any) -> list[Any]:
        """List trials as Optuna's study does."""
        return [trial for trial in self._what.get_trials(**how) if not is_lost(trial)]


def make_pruner(settings: SearchSettings) -> Any:
    """Make the rule that stops trials early: ASHA is https://arxiv.org/abs/1810.05934."""
    from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

    if settings.pruner == "asha":
        return WithoutLost(SuccessiveHalvingPruner(min_resource=rungs(settings.epochs)[0], reduction_factor=3))
    return MedianPruner(n_startup_trials=5) if settings.pruner == "median" else NopPruner()


def candidate_of(trial: Any, search: Search) -> Candidate:
    """Read the head of a finished trial."""
    return read(trial.params, search.settings, search.choices)
