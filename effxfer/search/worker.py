"""One worker: claims trials of a study, one after the other, until the budget is used up."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from effxfer.errors import out_of_memory
from effxfer.files import digest
from effxfer.search.costs import Costs
from effxfer.search.features import Features
from effxfer.search.head_training import DivergedError, fold_rows, judge, rungs, size_penalty
from effxfer.search.inputs import Rows
from effxfer.search.space import Candidate, SearchSettings, Taps, baseline, read, starts, suggest
from effxfer.search.storage.backends import Place, place_of
from effxfer.search.storage.trials import ask, counts, is_lost, owner, revive_claiming

MAX_REFUSALS = 200
POLL = 0.2


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
        folder: For logs, and the journal that is the search's own.
        stop: Whether to stop; asked after every epoch.
        costs: Latencies; None where nothing is known of them.
        until: `time.monotonic()` at which all is to be done, with finalists trained; infinite without a limit.
        closing: Seconds that must be left then for what does not depend on trials.
        given: Where trials are kept, if it is open already.
    """

    features: Features
    settings: SearchSettings
    choices: tuple[Taps, ...]
    seed: int
    folder: Path
    stop: Callable[[], bool] = lambda: False
    costs: Costs | None = None
    until: float = float("inf")
    closing: float = 0.0
    given: Place | None = None

    @cached_property
    def place(self) -> Place:
        """Where trials are kept."""
        return self.given or place_of(self.settings.storage, self.folder)

    def folds(self) -> list[tuple[Rows, Rows]]:
        """Cut the training split; the same for every trial."""
        return fold_rows(self.features.labels, self.settings.folds, self.seed)

    def reference(self) -> int:
        """Count the parameters of the plain linear head."""
        from effxfer.net.heads.spec import HeadSpec

        return self.features.parameters(HeadSpec(kind="linear"), self.choices[0])

    def penalty(self, candidate: Candidate) -> float:
        """Give what is taken off a head's metric for its size and its latency."""
        slow = 0.0
        if self.costs:
            slow = self.settings.slowness * math.log2(self.ratio(candidate))
        return size_penalty(self.features, candidate, self.settings, self.reference()) + slow

    def ratio(self, candidate: Candidate) -> float:
        """Give the latency of the network with a head over that with the plain linear one, as far as `costs` knows."""
        if not self.costs:
            return 1.0
        plain = read(baseline(self.choices), self.settings, self.choices)
        mine, theirs = (self.costs.ms(c, self.features.parameters(c.spec, c.taps)) for c in (candidate, plain))
        return mine / theirs


def derive_seed(*parts: object) -> int:
    """Make a seed below 2^31 out of plain values."""
    return int(digest(list(parts)), 16) % 2**31


def trial_seed(seed: int, params: dict[str, Any]) -> int:
    """Seed a trial's training by its parameters, so that training them again gives the same head."""
    return derive_seed(seed, params)


def work(study: Any, search: Search, finished: Callable[[], None] = lambda: None) -> None:
    """Claim and run trials until the budget is used up, time is, or `search.stop` says so.

    Args:
        study: The Optuna study.
        search: What it is about.
        finished: Called after each trial.
    """
    folds, place = search.folds(), search.place
    study.pruner = make_pruner(search.settings)
    while not late(study, search):
        claimed = claim(study, search, place)
        if claimed:
            try:
                run_trial(study, search, *claimed, folds=folds)
            except StoppedError:
                return
            finished()
        elif counts(study.get_trials(deepcopy=False), place)["running"]:
            time.sleep(POLL)  # one that dies leaves a trial to run again
        else:
            return


def late(study: Any, search: Search) -> bool:
    """Whether it is time to stop: what is left to do takes all the time that is left."""
    return search.stop() or time.monotonic() + closing(study, search) > search.until


def closing(study: Any, search: Search) -> float:
    """Guess the seconds between the last trial and the end; 0 where there is no limit to keep."""
    return 0.0 if math.isinf(search.until) else search.closing + finale(study, search)


def finale(study: Any, search: Search) -> float:
    """Guess the seconds that training finalists takes: what each took on its folds, for one on all examples."""
    folds = len(search.folds())
    share = 1.0 if folds == 1 else 1 / (folds - 1)
    done = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    best = sorted(done, key=lambda t: -t.value)[: search.settings.finalists]
    seconds = [float(t.user_attrs["seconds"]) * share for t in best]
    return 1.1 * sum(seconds)


def claim(study: Any, search: Search, place: Place) -> tuple[Any, Candidate] | None:
    """Take the next trial of the budget, under a lock between workers; None if there is none left.

    The sampler's seed depends on how many trials came before and not on who asks: workers differ from each other, and
    an interrupted search goes on with the trials that it would have had. A repeated, too large or too slow head is
    refused. The trials of dead workers are taken up again.
    """
    from optuna.trial import TrialState

    with place.claiming():
        revive_claiming(study, place)
        for attempt in range(MAX_REFUSALS):
            done = counts(study.get_trials(deepcopy=False), place)
            slot = done["complete"] + done["pruned"] + done["running"]
            if slot >= search.settings.most:
                return None
            study.sampler = make_sampler(search, slot, attempt)
            trial = ask(study)
            trial.set_user_attr("owner", owner(place))
            candidate = suggest(trial, search.settings, search.choices)
            reason = refusal(study, trial, candidate, search)
            if not reason:
                trial.set_user_attr("accepted", True)
                return trial, candidate
            trial.set_user_attr("refused", reason)
            study.tell(trial, state=TrialState.FAIL)
    return None


def refusal(study: Any, trial: Any, candidate: Candidate, search: Search) -> str:
    """Say why a trial is not worth running: `repeated`, `too large`, `too slow`, or nothing."""
    others = (t for t in study.get_trials(deepcopy=False) if t.number != trial.number)
    if any(t.params == trial.params for t in others if t.state.name in {"COMPLETE", "PRUNED", "RUNNING"}):
        return "repeated"
    limit, ratio = search.settings.max_parameters, search.settings.max_latency_ratio
    if limit is not None and search.features.parameters(candidate.spec, candidate.taps) > limit:
        return "too large"
    plain = trial.params == baseline(search.choices)
    return "too slow" if not plain and ratio is not None and search.ratio(candidate) > ratio else ""


def run_trial(
    study: Any, search: Search, trial: Any, candidate: Candidate, *, folds: list[tuple[Rows, Rows]]
) -> None:  # fmt: skip
    """Train and judge one head, and tell the study.

    A head that diverges or does not fit into memory counts as stopped early. Whatever else interrupts it leaves a lost
    trial, which `revive` queues again.
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
                report=_reporter(trial, search),
                check=_checker(study, trial, search),
            )
    except (TrialPruned, DivergedError, MemoryError) as reason:
        trial.set_user_attr("stopped", type(reason).__name__)
        study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
    except BaseException:
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


def _reporter(trial: Any, search: Search) -> Callable[[int, float], None]:
    """Report to Optuna; linear heads that stand for a pool or an early exit run to their ends, for the front's sake."""
    from optuna import TrialPruned

    protected = trial.params in starts(search.settings, search.choices)

    def report(epoch: int, value: float) -> None:
        trial.report(value, epoch)
        if not protected and epoch != rungs(search.settings.epochs)[-1] and trial.should_prune():
            raise TrialPruned

    return report


def _checker(study: Any, trial: Any, search: Search) -> Callable[[], None]:
    """Stop a trial when time is up; the plain linear head runs to its end."""
    protected, reserve = trial.params == baseline(search.choices), closing(study, search)

    def check() -> None:
        if not protected and (search.stop() or time.monotonic() + reserve > search.until):
            raise StoppedError

    return check


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
