"""What the head search may choose, and how a trial's parameters become a head."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from effxfer.errors import SettingsError, did_you_mean
from effxfer.settings import Settings

if TYPE_CHECKING:
    from effxfer.net.heads import HeadSpec

Taps = tuple[str, ...]
JOIN = " + "


class SearchSettings(Settings):
    """How the head is searched.

    Attributes:
        trials: Heads tried in all, those stopped early included; a resumed search only does what is missing.
        seconds: Time after which no trial goes on and the finalists are trained; None is no limit.
        workers: Processes that try heads side by side.
        epochs: Passes over the features in a full trial.
        batch: Examples per step at most; fewer where an epoch would have less than 8 steps, but at least 16.
        kinds: Kinds of heads to try; the plain linear head is always the first trial.
        max_width: Most units of an MLP's hidden layer; widths are powers of two from 16 (or this, if less).
        max_depth: Most hidden layers of an MLP.
        taps: Sets of feature layers to choose from; the first feeds the plain linear head. Empty: `out`
            alone, `out` with each other layer, and all layers.
        folds: Parts of the training split that take turns in judging a trial, at early epochs not all of them;
            1 judges on one fifth;
            0 takes 5 below 500 examples, 3 below 3,000, else 1.
        finalists: How many of the best heads are trained on the whole training split and ranked on `val`.
        metric: What is maximised.
        size_penalty: What a head with ten times the parameters must gain in the metric to be preferred;
            0 ignores size. A head's multiply-adds per image equal its weights, so this stands for latency, too.
        max_parameters: Larger heads are not tried; None is no limit.
        pruner: When a trial is stopped early: `asha` (not in the best third at a third and a ninth of the
            epochs), `median` (below the median of the others), `none`.
        startup: Trials drawn at random before TPE models the space.
        confidence: How sure it must be, by the validation split, that the head that was found is better than the one
            the network came with, which is kept otherwise, in [0, 1); 0 always takes the one that was found.
    """

    trials: int = Field(default=40, ge=1, le=100_000)
    seconds: float | None = Field(default=None, gt=0)
    workers: int = Field(default=1, ge=1, le=256)
    epochs: int = Field(default=20, ge=1, le=10_000)
    batch: int = Field(default=256, ge=2)
    kinds: tuple[Literal["linear", "cosine", "mlp"], ...] = Field(default=("linear", "cosine", "mlp"), min_length=1)
    max_width: int = Field(default=256, ge=1, le=65536)
    max_depth: int = Field(default=2, ge=1, le=3)
    taps: tuple[tuple[str, ...], ...] = ()
    folds: int = Field(default=0, ge=0, le=20)
    finalists: int = Field(default=5, ge=1, le=100)
    metric: Literal["accuracy", "balanced_accuracy", "macro_f1"] = "accuracy"
    size_penalty: float = Field(default=0.002, ge=0, le=1)
    max_parameters: int | None = Field(default=None, ge=1)
    pruner: Literal["asha", "median", "none"] = "asha"
    startup: int = Field(default=10, ge=0)
    confidence: float = Field(default=0.95, ge=0, lt=1)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A head and how it is trained.

    Attributes:
        spec: The head.
        taps: The feature layers that feed it.
        lr: Peak learning rate of AdamW.
        weight_decay: Decoupled weight decay of AdamW.
    """

    spec: HeadSpec
    taps: Taps
    lr: float
    weight_decay: float


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
        return tuple(dict.fromkeys(sets))
    for name in (name for taps in settings.taps for name in taps):
        if name not in names:
            raise SettingsError(f"no features of layer {name!r}{did_you_mean(name, names)}", f"there are {list(names)}")
    if any(not taps or len(set(taps)) < len(taps) for taps in settings.taps):
        raise SettingsError("a set of taps is empty or names a layer twice", "e.g. taps = [['out'], ['layer3', 'out']]")
    return tuple(dict.fromkeys(settings.taps))


def baseline(choices: Sequence[Taps]) -> dict[str, Any]:
    """Give the parameters of the plain linear head, trained as usual."""
    return {"kind": "linear", "taps": JOIN.join(choices[0]), "standardize": True, "lr": 1e-2, "weight_decay": 1e-2} | {
        "linear_dropout": 0.0
    }


def suggest(trial: Any, settings: SearchSettings, choices: Sequence[Taps]) -> Candidate:
    """Draw a head from the space.

    Args:
        trial: An Optuna trial; or an `optuna.trial.FixedTrial`, to read the parameters of a finished one.
        settings: Its `kinds` are used.
        choices: What `tap_choices` gave.
    """
    from effxfer.net.heads import HeadSpec

    kinds = list(dict.fromkeys(["linear", *settings.kinds]))
    kind = trial.suggest_categorical("kind", kinds)
    taps = trial.suggest_categorical("taps", [JOIN.join(taps) for taps in choices])
    lr = trial.suggest_float("lr", 3e-4, 1e-1, log=True)
    weight_decay = trial.suggest_float("weight_decay", 1e-4, 1.0, log=True)
    standardize = trial.suggest_categorical("standardize", [True, False])
    return Candidate(
        spec=HeadSpec(kind=kind, standardize=standardize, **_OWN[kind](trial, settings)),
        taps=next(names for names in choices if JOIN.join(names) == taps),
        lr=lr,
        weight_decay=weight_decay,
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
    most = int(math.log2(settings.max_width))
    return {
        "width": 2 ** trial.suggest_int("mlp_log2_width", min(4, most), most),
        "depth": trial.suggest_int("mlp_depth", 1, settings.max_depth),
        "activation": trial.suggest_categorical("mlp_activation", ["relu", "gelu", "hardswish"]),
        "norm": trial.suggest_categorical("mlp_norm", ["none", "batch", "layer"]),
        "dropout": _dropout(trial, "mlp"),
    }


def _dropout(trial: Any, kind: str) -> float:
    return round(float(trial.suggest_float(f"{kind}_dropout", 0.0, 0.5, step=0.1)), 1)


_OWN = {"cosine": _cosine, "linear": _linear, "mlp": _mlp}
