"""Settings and search space of the head search, and the conversion of a trial's parameters into a head."""

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
Metric = Literal["accuracy", "balanced_accuracy", "macro_f1", "mAP", "R2"]
JOIN = " + "


class SearchSettings(Settings):
    """Settings of the head search.

    Attributes:
        trials: Total number of trials, pruned ones included; a resumed search runs the missing ones. None is 40 without
            `seconds`, and with it as many as fit. Each of several tasks has so many.
        seconds: Time limit of the whole search, with features and finalists, of all tasks together; None: no limit. One
            head is always tried.
        workers: Number of worker processes.
        epochs: Passes over the features in a full trial.
        batch: Maximum examples per step; fewer if an epoch would have less than 8 steps, but at least 16.
        kinds: Kinds of heads to try; the plain linear head is always the first trial. Cosine heads are not tried for
            values, as an angle has no scale of its own.
        pools: Pooling of a layer's positions into one vector; the mean is always included.
        joins: Fusion of several layers into one vector.
        optimizers: Optimizers of heads; AdamW is always included.
        max_width: Maximum units of an MLP's hidden layer, and of the common width of gated layers; powers of two from
            16 (or this, if less).
        max_depth: Maximum hidden layers of an MLP.
        max_queries: Maximum queries of attention pooling; powers of two.
        max_rank: Maximum rank of bilinear pooling and of an MLP's bottleneck; powers of two from 4 (or this, if less).
        grid: Pooling heads see feature maps averaged down to less than twice this many positions per side.
        cache_mb: Cache size in megabytes for unpooled feature maps. If they need more, the grid is coarsened, and at
            last no pooling heads are tried.
        taps: Sets of feature layers to choose from; the first feeds the plain linear head. Empty: `out`, `out` with
            each other layer, all layers, and, if `early_exits`, each other layer by itself.
        early_exits: Also try heads on earlier layers, where the end of the body is removed.
        folds: Cross-validation folds of a trial; early epochs evaluate only some of them. 1 holds out one fifth; 0 is 5
            below 500 examples, 3 below 3,000, else 1.
        finalists: Number of best heads that are trained on the full training split and ranked on `val`.
        metric: Metric to maximise; None is the main one of the kind of label: `accuracy` of single labels (or
            `balanced_accuracy`, `macro_f1`), `mAP` of several, `R2` of values. Of several tasks it is for those that
            have it.
        size_penalty: Gain in the metric that a head with ten times the parameters needs; 0 ignores size.
        latency: Export and time the body, cut at each set of layers, and the heads; false ignores latency. Measurements
            are stored with the study. As they vary between runs, so may the trials: a seed is only reproducible in the
            same folder, or without latency.
        latency_penalty: Gain in the metric that a network of twice the latency needs; 0 ignores latency; None is 0.01,
            or 0.05 if `prefer` is `fast`.
        max_latency_ratio: Maximum latency of the network, divided by its latency with the plain linear head; slower
            heads are not tried. None: no limit. Of several tasks it is the limit of their one file.
        threads: Threads of ONNX Runtime for latency; 0 is one per core.
        prefer: Finalist to select: `accuracy`, the best one after penalties; `fast`, the fastest one (the smallest,
            without `latency`) that loses at most `max_drop` against the plain linear head.
        max_drop: For `fast`: largest loss of the metric, in percentage points.
        max_parameters: Maximum parameters of a head; None: no limit.
        pruner: Early stopping of trials: `asha` (not in the best third at a ninth and a third of the epochs), `median`
            (below the median of the other trials), or `none`.
        startup: Random trials before TPE models the space.
        confidence: Required confidence, on the validation split, that the new head is better than the network's current
            head, which is kept otherwise; in [0, 1). 0 always selects the new head.
        storage: Trial storage shared by several machines: `postgresql://USER@HOST/DATABASE` (with the password in
            PGPASSWORD or ~/.pgpass) or `journal:PATH`; None is a private journal.
    """

    trials: int | None = Field(default=None, ge=1, le=100_000)
    seconds: float | None = Field(default=None, gt=0)
    workers: int = Field(default=1, ge=1, le=256)
    # Chosen, not measured: more help small rates, and cost every trial; asha spends 2 on poor ones.
    epochs: int = Field(default=20, ge=1, le=10_000)
    batch: int = Field(default=256, ge=2)  # chosen: a step of a small head is then no longer mostly overhead
    kinds: tuple[Literal["linear", "cosine", "mlp"], ...] = Field(default=("linear", "cosine", "mlp"), min_length=1)
    pools: tuple[Pooling, ...] = ("mean", "gem", "attention", "bilinear")
    joins: tuple[Literal["concat", "gate"], ...] = Field(default=("concat", "gate"), min_length=1)
    optimizers: tuple[Literal["adamw", "sgd"], ...] = Field(default=("adamw", "sgd"), min_length=1)
    # Chosen, not measured: 1,280 x 256 weights are 0.33 M, a tenth of a MobileNetV2.
    max_width: int = Field(default=256, ge=1, le=65536)
    max_depth: int = Field(default=2, ge=1, le=3)
    max_queries: int = Field(default=4, ge=1, le=64)
    max_rank: int = Field(default=32, ge=1, le=1024)
    grid: int = Field(default=7, ge=1, le=64)  # the last maps of networks of stride 32 at 224 px
    # Chosen: maps lie on the disk; as long as they fit into free memory, the system keeps them there.
    cache_mb: float = Field(default=2000.0, ge=0)
    taps: tuple[tuple[str, ...], ...] = ()
    early_exits: bool = True
    folds: int = Field(default=0, ge=0, le=20)
    # Chosen: each costs a full training and its timing, and `val` picks among few
    finalists: int = Field(default=5, ge=1, le=100)
    metric: Metric | None = None
    # Chosen: a tenth of the size is worth 0.2 points, less than `val` can tell apart; it decides between equals.
    size_penalty: float = Field(default=0.002, ge=0, le=1)
    latency: bool = True
    latency_penalty: float | None = Field(default=None, ge=0, le=1)
    # Chosen: a head that costs more than 5 % of the network is hardly what one wants from a head.
    max_latency_ratio: float | None = Field(default=1.05, gt=0)
    threads: int = Field(default=1, ge=0)
    prefer: Literal["accuracy", "fast"] = "accuracy"
    max_drop: float = Field(default=0.0, ge=0, le=100)
    max_parameters: int | None = Field(default=None, ge=1)
    pruner: Literal["asha", "median", "none"] = "asha"
    startup: int = Field(default=10, ge=0)  # Optuna's own default
    # On PACS, taking the best on val lost 0.4 and 0.8 points on test: the body knows the training split by heart.
    confidence: float = Field(default=0.95, ge=0, lt=1)
    storage: str | None = None

    @field_validator("storage")
    @classmethod
    def _check_storage(cls, value: str | None) -> str | None:
        return value and check_storage(value)

    @property
    def latency_weight(self) -> float:
        """Penalty on the metric for doubling the latency."""
        if self.latency_penalty is None:
            # One point for half the latency; five where the user wants speed, so that the search looks there.
            return 0.05 if self.prefer == "fast" else 0.01
        return self.latency_penalty

    @property
    def max_trials(self) -> int:
        """Maximum number of trials."""
        # 40: chosen; 10 random, 30 modelled, some minutes on a CPU. 100,000 stands for "as many as fit".
        return self.trials or (40 if self.seconds is None else 100_000)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A head and its training hyperparameters.

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
        settings: Settings of the search; non-empty `taps` are used unchanged.
        names: Names of the layers with cached features.

    Raises:
        SettingsError: If a set of `taps` is empty, repeats a layer, or names a layer without features.
    """
    if not settings.taps:
        out = "out" if "out" in names else names[-1]
        earlier = [name for name in names if name != out]
        # The plain one first; pairs before all layers; earlier ones by themselves allow a shorter body.
        sets = [(out,), *((name, out) for name in earlier), (*earlier, out)]
        sets += [(name,) for name in earlier] if settings.early_exits else []
        return tuple(dict.fromkeys(sets))
    for name in (name for taps in settings.taps for name in taps):
        if name not in names:
            raise SettingsError(
                f"no features of layer {name!r}{did_you_mean(name, names)}", f"layers with features: {list(names)}"
            )
    if any(not taps or len(set(taps)) < len(taps) for taps in settings.taps):
        raise SettingsError("a set of taps is empty or names a layer twice", "e.g. taps = [['out'], ['layer3', 'out']]")
    return tuple(dict.fromkeys(settings.taps))


def baseline(choices: Sequence[Taps]) -> dict[str, Any]:
    """Return the trial parameters of the plain linear head, the first trial of every search."""
    return plain(choices[0])


def plain(taps: Taps, pool: str = "mean") -> dict[str, Any]:
    """Return the trial parameters of a linear head on some layers, with default hyperparameters."""
    # 0.01: chosen; near the middle of the searched rates, 0.0055 on their logarithmic scale.
    params = {"kind": "linear", "pool": pool, "taps": JOIN.join(taps), "optimizer": "adamw", "lr": 1e-2}
    params |= {"weight_decay": 1e-2, "linear_dropout": 0.0} | _DEFAULTS[pool]
    return params | ({"join": "concat"} if len(taps) > 1 else {})


def starts(settings: SearchSettings, choices: Sequence[Taps]) -> list[dict[str, Any]]:
    """Return the first trials: the plain linear head, then one per pooling, then one per single layer."""
    pools = [plain(choices[0], pool) for pool in settings.pools if pool != "mean"]
    for params in pools:
        if "bilinear_log2_rank" in params:
            # Rank 8 in the first trial: 36 numbers, as many as a narrow layer has channels.
            params["bilinear_log2_rank"] = min(3, int(math.log2(settings.max_rank)))
    single_layers = [plain(taps) for taps in choices[1:] if len(taps) == 1]
    return [baseline(choices), *pools, *single_layers]


def suggest(trial: Any, settings: SearchSettings, choices: Sequence[Taps]) -> Candidate:
    """Sample a head from the search space.

    Args:
        trial: An Optuna trial, or an `optuna.trial.FixedTrial` with the parameters of a finished trial.
        settings: Bounds of the search space.
        choices: Result of `tap_choices`.
    """
    from effxfer.net.heads.spec import HeadSpec

    kind = trial.suggest_categorical("kind", list(dict.fromkeys(["linear", *settings.kinds])))
    pool = trial.suggest_categorical("pool", list(dict.fromkeys(["mean", *settings.pools])))
    joined = trial.suggest_categorical("taps", [JOIN.join(taps) for taps in choices])
    taps = next(names for names in choices if JOIN.join(names) == joined)
    table = _CLASSIFIERS[kind](trial, settings) | _POOLS[pool](trial, settings) | _join(trial, settings, taps)
    if pool != "mean":
        table |= {"standardize": True, "grid": settings.grid}
    optimizer = trial.suggest_categorical("optimizer", list(dict.fromkeys(["adamw", *settings.optimizers])))
    # Chosen: two to three decades each; SGD's ten times higher, because Adam divides by the gradients' size.
    rates = {"adamw": ("lr", 3e-4, 1e-1), "sgd": ("sgd_lr", 3e-3, 1.0)}
    return Candidate(
        spec=HeadSpec(kind=kind, pool=pool, **table),
        taps=taps,
        lr=trial.suggest_float(*rates[optimizer], log=True),
        # Decoupled and times the rate: at lr = 0.01, a decay of 1 shrinks weights by a percent a step.
        weight_decay=trial.suggest_float("weight_decay", 1e-4, 1.0, log=True),
        optimizer=optimizer,
    )


def read(params: Mapping[str, Any], settings: SearchSettings, choices: Sequence[Taps]) -> Candidate:
    """Return the candidate of a finished trial from its parameters."""
    from optuna.trial import FixedTrial

    return suggest(FixedTrial(dict(params)), settings, choices)


def _linear(trial: Any, _settings: SearchSettings) -> dict[str, Any]:
    return {"dropout": _dropout(trial, "linear")}


def _cosine(trial: Any, _settings: SearchSettings) -> dict[str, Any]:
    return {
        "dropout": _dropout(trial, "cosine"),
        # Up to ArcFace's 64 (https://arxiv.org/abs/1801.07698); with few classes, less already saturates softmax.
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
    # 3 is the initial power of Radenovic et al. 2018 (https://arxiv.org/abs/1711.02512); 1 would be the mean.
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


def _power(trial: Any, name: str, smallest: int, largest: int) -> int:
    powers = _powers(smallest, largest)
    power: int = trial.suggest_int(name, powers[0].bit_length() - 1, powers[-1].bit_length() - 1)
    return 1 << power


def _powers(smallest: int, largest: int) -> list[int]:
    """The powers of two between two bounds; the largest one below both if there is none between them."""
    top = int(math.log2(largest))
    return [2**k for k in range(min(int(math.log2(smallest)), top), top + 1)]


def _dropout(trial: Any, kind: str) -> float:
    # Rounded: steps of 0.1 add up to 0.30000000000000004, and equal heads would look different.
    return round(float(trial.suggest_float(f"{kind}_dropout", 0.0, 0.5, step=0.1)), 1)


_CLASSIFIERS = {"cosine": _cosine, "linear": _linear, "mlp": _mlp}
_POOLS = {"attention": _attention, "bilinear": _bilinear, "gem": _gem, "mean": _mean}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "attention": {"attention_log2_queries": 0},
    "bilinear": {"bilinear_log2_rank": 2},
    "gem": {"gem_power": "3"},
    "mean": {"standardize": True},
}
