"""Which head a trial draws, and which trials stop early: Optuna's samplers and pruners, with what is known of them."""

from __future__ import annotations

import warnings
from typing import Any

from effxfer.files import digest
from effxfer.search.head_training import rungs
from effxfer.search.space import SearchSettings
from effxfer.search.storage.trials import is_lost

# TPE on a small space repeats itself (measured: 1 to 5 of 24 trials); half of these draws are then random ones.
MAX_REFUSALS = 200


def derive_seed(*parts: object) -> int:
    """Make a seed below 2^31 out of plain values."""
    # numpy's RandomState, which Optuna seeds, takes 32 bits; torch and Optuna take this as well.
    return int(digest(list(parts)), 16) % 2**31


def make_sampler(settings: SearchSettings, seed: int, slot: int, attempt: int) -> Any:
    """Make the sampler of one trial: multivariate TPE (https://arxiv.org/abs/2304.11127), random at first.

    Args:
        settings: Settings of the search.
        seed: Random seed of the whole search.
        slot: How many trials came before it.
        attempt: How many of its draws were refused.
    """
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import RandomSampler, TPESampler

    seed = derive_seed(seed, slot, attempt)
    # Slot 0 is the plain linear head, so that `startup` random ones follow.
    if slot <= settings.startup or attempt > MAX_REFUSALS // 2:
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # group: branches of the space have parameters of their own. constant_liar: trials that run count as poor, so
        # that workers draw different ones.
        return TPESampler(seed=seed, n_startup_trials=0, multivariate=True, group=True, constant_liar=True)


class WithoutLost:
    """A pruner or study that does not see lost trials: what they reported counts when they are run again, not twice."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def prune(self, study: Any, trial: Any) -> bool:
        """Decide as Optuna's pruner does."""
        return bool(self._inner.prune(WithoutLost(study), trial))

    def get_trials(self, **how: Any) -> list[Any]:
        """List trials as Optuna's study does."""
        return [trial for trial in self._inner.get_trials(**how) if not is_lost(trial)]


def make_pruner(settings: SearchSettings) -> Any:
    """Make the rule that stops trials early: ASHA is https://arxiv.org/abs/1810.05934."""
    from optuna.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner

    if settings.pruner == "asha":
        # The best third goes on at each rung (Li et al. 2018).
        return WithoutLost(SuccessiveHalvingPruner(min_resource=rungs(settings.epochs)[0], reduction_factor=3))
    # Optuna's default: with fewer trials a median says little.
    return MedianPruner(n_startup_trials=5) if settings.pruner == "median" else NopPruner()
