"""What the head search may choose, and how a trial's parameters become a head."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from effxfer.errors import SettingsError, did_you_mean
from effxfer.search.storage.backends import check_storage
from effxfer.settings import Settings

if TYPE_CHECKING:
    from effxfer.net.heads.spec import HeadSpec

Taps = tuple[str, ...]
Pooling = Literal["mean", "gem", "attention", "bilinear"]
JOIN = " + "


class SearchSettings(Settings):
    """How the head is searched.

    Attributes:
        trials: Heads tried in all, those stopped early included; a resumed search only does what is missing. None is 40
            without `seconds`, and with it as many as fit.
        seconds: Time for all of it, features and finalists included; None is no limit. One head is tried at least.
        workers: Processes that try heads side by side.
        epochs: Passes over the features in a full trial.
        batch: Examples per step at most; fewer where an epoch would have less than 8 steps, but at least 16.
        kinds: Kinds of heads to try; the plain linear head is always the first trial.
        pools: How a layer's positions become one vector; the plain mean is always among them.
        joins: How several layers become one vector.
        optimizers: What trains heads; AdamW is always among them.
        max_width: Most units of an MLP's hidden layer, and of the common width of mixed layers; powers of two from 16
            (or this, if less).
        max_depth: Most hidden layers of an MLP.
        max_queries: Most averages of attention pooling, powers of two.
        max_rank: Largest rank of bilinear pooling and of an MLP's bottleneck, powers of two from 4 (or this, if less).
        grid: Heads that pool see maps averaged down to less than twice so many positions a side.
        cache_mb: Space for layers that are not averaged. If they need more, the grid becomes coarser; if that does not
            help, no head pools.
        taps: Sets of feature layers to choose from; the first feeds the plain linear head. Empty: `out`
            alone, `out` with each other layer, all layers, and each other layer alone if `early_exits`.
        early_exits: Also try heads that do without the end of the body, which is cut off then.
        folds: Parts of the training split that take turns in judging a trial, at early epochs not all of them;
            1 judges on one fifth;
            0 takes 5 below 500 examples, 3 below 3,000, else 1.
        finalists: How many of the best heads are trained on the whole training split and ranked on `val`.
        metric: What is maximised.
        size_penalty: What a head with ten times the parameters must gain in the metric to be preferred;
            0 ignores size.
        latency: Export the body once and time it, cut at each set of layers, and time heads; off, nothing knows
            latency. What is measured is kept with the study. It differs from run to run, and so may what is tried: the
            same seed gives the same head in the same folder, or where this is off.
        latency_penalty: What a network that is twice as slow must gain in the metric; 0 ignores latency; None is 0.01,
            or 0.05 if `prefer` is `fast`.
        max_latency_ratio: Heads with which the whole network is slower than so many times the one with the plain linear
            head are not tried; None is no limit.
        threads: Of ONNX Runtime, for latency; 0 is one per core.
        prefer: Which finalist is taken: `accuracy`, the best one, counting the penalties; `fast`, the fastest one (the
            smallest, without `latency`) that loses at most `max_drop` against the plain linear head.
        max_drop: For `fast`: points of the metric, in percent, that may be lost.
        max_parameters: Larger heads are not tried; None is no limit.
        pruner: When a trial is stopped early: `asha` (not in the best third at a third and a ninth of the
            epochs), `median` (below the median of the others), `none`.
        startup: Trials drawn at random before TPE models the space.
        confidence: How sure it must be, by the validation split, that the head that was found is better than the one
            the network came with, which is kept otherwise, in [0, 1); 0 always takes the one that was found.
        storage: Where trials are kept that several machines share: `postgresql://USER@HOST/DATABASE` (the password
            comes from PGPASSWORD or ~/.pgpass) or `journal:PATH`; None is a journal of this search's own.
    """

    trials: int | None = Field(default=None, ge=1, le=100_000)
    seconds: float | None = Field(default=None, gt=0)
    workers: int = Field(default=1, ge=1, le=256)
    epochs: int = Field(default=20, ge=1, le=10_000)
    batch: int = Field(default=256, ge=2)
    kinds: tuple[Literal["linear", "cosine", "mlp"], ...] = Field(default=("linear", "cosine", "mlp"), min_length=1)
    pools: tuple[Pooling, ...] = ("mean", "gem", "attention", "bilinear")
    joins: tuple[Literal["concat", "gate"], ...] = Field(default=("concat", "gate"), min_length=1)
    optimizers: tuple[Literal["adamw", "sgd"], ...] = Field(default=("adamw", "sgd"), min_length=1)
    max_width: int = Field(default=256, ge=1, le=65536)
    max_depth: int = Field(default=2, ge=1, le=3)
    max_queries: int = Field(default=4, ge=1, le=64)
    max_rank: int = Field(default=32, ge=1, le=1024)
    grid: int = Field(default=7, ge=1, le=64)
    cache_mb: float = Field(default=2000.0, ge=0)
    taps: tuple[tuple[str, ...], ...] = ()
    early_exits: bool = True
    folds: int = Field(default=0, ge=0, le=20)
    finalists: int = Field(default=5, ge=1, le=100)
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1"] = "accuracy"
    size_penalty: float = Field(default=0.002, ge=0, le=1)
    latency: bool = True
    latency_penalty: float | None = Field(default=None, ge=0, le=1)
    max_latency_ratio: float | None = Field(default=1.05, gt=0)
    threads: int = Field(default=1, ge=0)
    prefer: Literal["accuracy", "fast"] = "accuracy"
    max_drop: float = Field(default=0.0, ge=0, le=100)
    max_parameters: int | None = Field(default=None, ge=1)
    pruner: Literal["asha", "median", "none"] = "asha"
    startup: int = Field(default=10, ge=0)
    confidence: float = Field(default=0.95, ge=0, lt=1)
    storage: str | None = None

    @field_validator("storage")
    @classmethod
    def _check_storage(cls, value: str | None) -> str | None:
        return value and check_storage(value)

    @property
    def latency_weight(self) -> float:
        """Penalty on the metric for twice the latency."""
        if self.latency_penalty is None:
            return 0.05 if self.prefer == "fast" else 0.01
        return self.latency_penalty

    @property
    def max_trials(self) -> int:
        """Trials in all."""
        return self.trials or (40 if self.seconds is None else 100_000)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A head and how it is trained.

    Attributes:
        spec: The head.
        taps: The feature layers that feed it.
        lr: Peak learning rate.
        weight_decay: Decoupled weight decay.
        optimizer: A key of `flat_optim.OPTIMIZERS`.
    """

    spec: HeadSpec
    taps: Taps
    lr: float
    weight_decay: float
    optimizer: str = "adamw"


def tap_choices(settings: SearchSettings, names: Sequence[str]) -> tuple[Taps, ...]:
    """List the sets of feature layers to choose from; the first feeds the plain linear head.

    Args:
        settings: Its `taps`, if any, are taken as they are.
        names: The layers that there are features of.

    Raises:
        SettingsError: If `taps` names a layer twice in a set, or one that there are no features of.
    """
    if not settings.taps:
        out = "out" if "out" in names else names[-1]
        others = [name for name in names if name != out]
        sets = [(out,), *((name, out) for name in others), (*others, out)]
        sets += [(name,) for name in others] if settings.early_exits else []
        return tuple(dict.fromkeys(sets))
    for name in (name for taps in settings.taps for name in taps):
        if name not in names:
            raise SettingsError(f"no features of layer {name!r}{did_you_mean(name, names)}", f"there are {list(names)}")
    if any(not taps or len(set(taps)) < len(taps) for taps in settings.taps):
        raise SettingsError("a set of taps is empty or names a layer twice", "e.g. taps = [['out'], ['layer3', 'out']]")
    return tuple(dict.fromkeys(settings.taps))


def baseline(choices: Sequence[Taps]) -> dict[str, Any]:
    """Give the parameters of the plain linear head, trained as usual."""
    return plain(choices[0])


def plain(taps: Taps, pool: str = "mean") -> dict[str, Any]:
    """Give the parameters of a linear head on some layers, trained as usual."""
    params = {"kind": "linear", "pool": pool, "taps": JOIN.join(taps), "optimizer": "adamw", "lr": 1e-2}
    params |= {"weight_decay": 1e-2, "linear_dropout": 0.0} | _DEFAULTS[pool]
    return params | ({"join": "concat"} if len(taps) > 1 else {})


def starts(settings: SearchSettings, choices: Sequence[Taps]) -> list[dict[str, Any]]:
    """Give the parameters to try first: the plain linear head; on each pool; on each single layer."""
    pools = [plain(choices[0], pool) for pool in settings.pools if pool != "mean"]
    for params in pools:
        if "bilinear_log2_rank" in params:
            params["bilinear_log2_rank"] = min(3, int(math.log2(settings.max_rank)))
    single_layers = [plain(taps) for taps in choices[1:] if len(taps) == 1]
    return [baseline(choices), *pools, *single_layers]


def suggest(trial: Any, settings: SearchSettings, choices: Sequence[Taps]) -> Candidate:
    """Draw a head from the space.

    Args:
        trial: An Optuna trial; or an `optuna.trial.FixedTrial`, to read the parameters of a finished one.
        settings: What heads may look like.
        choices: What `tap_choices` gave.
    """
    from effxfer.net.heads.spec import HeadSpec

    kind = trial.suggest_categorical("kind", list(dict.fromkeys(["linear", *settings.kinds])))
    pool = trial.suggest_categorical("pool", list(dict.fromkeys(["mean", *settings.pools])))
    joined = trial.suggest_categorical("taps", [JOIN.join(taps) for taps in choices])
    taps = next(names for names in choices if JOIN.join(names) == joined)
    table = _OWN[kind](trial, settings) | _POOLS[pool](trial, settings) | _join(trial, settings, taps)
    if pool != "mean":
        table |= {"standardize": True, "grid": settings.grid}
    optimizer = trial.suggest_categorical("optimizer", list(dict.fromkeys(["adamw", *settings.optimizers])))
    rates = {"adamw": ("lr", 3e-4, 1e-1), "sgd": ("sgd_lr", 3e-3, 1.0)}
    return Candidate(
        spec=HeadSpec(kind=kind, pool=pool, **table),
        taps=taps,
        lr=trial.suggest_float(*rates[optimizer], log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-4, 1.0, log=True),
        optimizer=optimizer,
    )


def read(params: Mapping[str, Any], settings: SearchSettings, choices: Sequence[Taps]) -> Candidate:
    """Give the head that a finished trial tried."""
    from optuna.trial import FixedTrial

    return suggest(FixedTrial(dict(params)), settings, choices)


def _linear(trial: Any, _settings: SearchSettings) -> dict[str, Any]:
    return {"dropout": _dropout(trial, "linear")}


def _cosine(trial: Any, _settings: SearchSettings) -> dict[str, Any]:
    return {
        "dropout": _dropout(trial, "cosine"),
        "scale": trial.suggest_float("cosine_scale", 4.0, 64.0, log=True),
        "learn_scale": trial.suggest_categorical("cosine_learn_scale", [True, False]),
    }


def _mlp(trial: Any, settings: SearchSettings) -> dict[str, Any]:
    return {
        "width": _power(trial, "mlp_log2_width", 16, settings.max_width),
        "depth": trial.suggest_int("mlp_depth", 1, settings.max_depth),
        "activation": trial.suggest_categorical("mlp_activation", ["relu", "gelu", "hardswish"]),
        "norm": trial.suggest_categorical("mlp_norm", ["none", "batch", "layer"]),
        "bottleneck": trial.suggest_categorical("mlp_bottleneck", [0, *_powers(4, settings.max_rank)]),
        "dropout": _dropout(trial, "mlp"),
    }


def _mean(trial: Any, _settings: SearchSettings) -> dict[str, Any]:
    return {"standardize": trial.suggest_categorical("standardize", [True, False])}


def _gem(trial: Any, _settings: SearchSettings) -> dict[str, Any]:
    power = trial.suggest_categorical("gem_power", ["2", "3", "4", "learned"])
    return {"learn_power": True} if power == "learned" else {"learn_power": False, "power": float(power)}


def _attention(trial: Any, settings: SearchSettings) -> dict[str, Any]:
    return {"queries": _power(trial, "attention_log2_queries", 1, settings.max_queries)}


def _bilinear(trial: Any, settings: SearchSettings) -> dict[str, Any]:
    return {"rank": _power(trial, "bilinear_log2_rank", 4, settings.max_rank)}


def _join(trial: Any, settings: SearchSettings, taps: Taps) -> dict[str, Any]:
    if len(taps) == 1:
        return {}
    join = trial.suggest_categorical("join", list(dict.fromkeys(["concat", *settings.joins])))
    return {"join": join, "mix": _power(trial, "gate_log2_width", 16, settings.max_width)} if join == "gate" else {}


def _power(trial: Any, name: str, least: int, most: int) -> int:
    powers = _powers(least, most)
    power: int = trial.suggest_int(name, powers[0].bit_length() - 1, powers[-1].bit_length() - 1)
    return 1 << power


def _powers(least: int, most: int) -> list[int]:
    """The powers of two from one to the other; the largest below both if there is none."""
    top = int(math.log2(most))
    return [2**k for k in range(min(int(math.log2(least)), top), top + 1)]


def _dropout(trial: Any, kind: str) -> float:
    return round(float(trial.suggest_float(f"{kind}_dropout", 0.0, 0.5, step=0.1)), 1)


_OWN = {"cosine": _cosine, "linear": _linear, "mlp": _mlp}
_POOLS = {"attention": _attention, "bilinear": _bilinear, "gem": _gem, "mean": _mean}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "attention": {"attention_log2_queries": 0},
    "bilinear": {"bilinear_log2_rank": 2},
    "gem": {"gem_power": "3"},
    "mean": {"standardize": True},
}
