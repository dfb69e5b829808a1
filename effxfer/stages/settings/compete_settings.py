"""Settings of the stage `compete`; no heavy imports."""

from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from effxfer.errors import SettingsError
from effxfer.settings import build, overlay, problems
from effxfer.stages.settings.base import CONTINUAL, Backbone, Target
from effxfer.stages.settings.common import Finetune
from effxfer.train.settings import LR, Validator

LOWER, THIRD = "a third of the rate", 0.3
CANDIDATES: dict[str, dict[str, Any]] = {
    "full": {},
    # Of few, small batches statistics are estimated badly: those of pretraining may be closer.
    "frozen statistics": {"options": {"batchnorm": "frozen"}},
    # 0.75: as MAE fine-tunes its large ViTs (He et al. 2021, 2111.06377); chosen for all depths, not measured here.
    "layer decay": {"fit": {"layer_decay": 0.75}},
    # Kumar et al. 2022, 2202.10054: a probed head first, so that a random one does not distort the features.
    "probe, then full": {"strategy": "lp_ft"},
    "probe": {"strategy": "probe"},
    # Half a decade below the default of images; chosen, not measured: each further candidate takes others' time.
    LOWER: {"fit": {"lr": 3e-4}},
}
# Encoders of texts have no BatchNorm statistics to freeze.
OF_TEXTS: dict[str, dict[str, Any]] = {
    **{name: changes for name, changes in CANDIDATES.items() if name != "frozen statistics"},
    "low-rank updates": {"strategy": "lora"},
}
OF_ANSWERS = {name: changes for name, changes in OF_TEXTS.items() if name != "probe, then full"}
# For another domain of the same classes: one of each way, and what it must beat. All judge by `validator`.
DOMAIN_CANDIDATES: dict[str, dict[str, Any]] = {
    "source only": {},
    "adabn": {"strategy": "adabn"},
    "coral": {"strategy": "coral"},
    # A tenth of the paper's weight: at 1 it was worse than source only from photographs to sketches (guide).
    "dann": {"strategy": "dann", "options": {"weight": 0.1}},
    # Separate statistics: 36.6 and 74.4 % against 31.8 and 72.4 % on the two targets of PACS where both were measured.
    "mcc": {"strategy": "mcc", "options": {"statistics": "separate"}},
    "self-training": {"strategy": "self_training"},
}
# With few labels: methods that train little of the network, or nothing.
FEW = 10  # labels per class; chosen: few-shot learning is measured with 1 to 10
FEW_LABELS: dict[str, dict[str, dict[str, Any]]] = {
    "image": {
        "full": {}, "frozen statistics": {"options": {"batchnorm": "frozen"}},
        "probe, then full": {"strategy": "lp_ft"}, "probe": {"strategy": "probe"},
        "nearest means": {"strategy": "simpleshot"},
    },
    "text": {
        "full": {}, "probe, then full": {"strategy": "lp_ft"}, "probe": {"strategy": "probe"},
        "setfit": {"strategy": "setfit"},
    },
}  # fmt: skip
# Of several tasks: every weighting, and with `equal` and `rlw` what they must beat.
WEIGHTINGS = ("equal", "rlw", "uncertainty", "dwa", "gradnorm", "pcgrad", "mgda", "cagrad")
TASK_CANDIDATES: dict[str, dict[str, Any]] = {
    name: {"strategy": "multi_task", "options": {"weighting": name}} for name in WEIGHTINGS
}
# Of tasks in the order of time: what every method must beat, and the methods.
TIME_CONTROLS: dict[str, dict[str, Any]] = {
    "naive": {"strategy": "replay", "options": {"memory": 0, "holdout": 0}},
    "nearest mean": {"strategy": "nearest_mean"},
}
TIME_CANDIDATES: dict[str, dict[str, Any]] = {
    **TIME_CONTROLS,
    **{name: {"strategy": name} for name in ("replay", "der", "icarl", "gdumb", "lwf", "ewc", "si")},
}
# Counts confident answers and answers spread over all classes, so that a network that collapsed ranks last.
DOMAIN_VALIDATOR: Validator = "information"
# What the competition itself is told; a candidate's recipe is everything else.
COMPETITION_FIELDS = ("backbones", "candidates", "eta", "latency_penalty", "seconds", "validator")


class Compete(Finetune):
    """Select recipe and backbone by successive halving: train all candidates briefly, and the better ones longer.

    Candidates may be strategies that learn tasks in the order of time: all of them then, with two controls.

    Attributes:
        candidates: Changes of each candidate to the shared settings, by name. A candidate whose strategy does not
            accept the shared `options` uses its own options only.
        backbones: Networks to try each candidate on in addition to the input network, each a source or a table with
            the keys of `[backbone]`.
        eta: Reduction factor of successive halving: one candidate in `eta` advances, and trains `eta` times as long.
        latency_penalty: Points of validation accuracy that halving the latency is worth; 0 ignores latency.
        validator: What candidates are compared by: `source` is the score on the validation split; others look at a
            target domain without its labels, see `Strategy.validator`. The default candidates of a task with a target
            domain are compared by `information`.
        seconds: Time limit of the stage, shared equally by the candidates of a round. No training run is longer than
            its share of `fit.epochs`. None: the rounds are measured in epochs.
    """

    candidates: dict[str, dict[str, Any]] = Field(default_factory=lambda: dict(CANDIDATES), min_length=1)
    backbones: tuple[Backbone, ...] = ()
    # 3: about e, where halving is cheapest in theory; Hyperband's usual 3 or 4 (Li et al. 2018, 1603.06560).
    eta: int = Field(default=3, ge=2, le=10)
    latency_penalty: float = Field(default=0.0, ge=0)
    validator: Validator = "source"

    @field_validator("candidates")
    @classmethod
    def _are_recipes(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, changes in value.items():
            # A candidate with more time or another seed would win by these.
            if "seconds" in changes or "seed" in changes:
                raise ValueError(f"{name}: seconds and seed are the same for all candidates")
            wrong = problems(Finetune, changes)
            if wrong:
                raise ValueError(f"{name}: {'; '.join(wrong)}")
        return value

    @property
    def in_time(self) -> bool:
        """Whether candidates learn tasks one after another."""
        named = {changes.get("strategy", self.strategy) for changes in self.candidates.values()}
        return self.strategy in CONTINUAL or any(name in CONTINUAL for name in named)

    @model_validator(mode="after")
    def _fit_time(self) -> Self:
        if not self.in_time:
            return self
        foreign = [name for name, one in self.candidates.items() if one.get("strategy", self.strategy) not in CONTINUAL]
        if foreign and self.candidates != CANDIDATES:
            raise ValueError(
                f"candidate {foreign[0]!r} does not learn tasks in time as others do: leave out either kind"
            )
        if self.seconds is not None or self.validator != "source":
            raise ValueError(
                "of tasks in time, candidates have equal epochs, and labels judge: no seconds, no validator"
            )
        return self

    def for_data(self, kind: str, labels: str, target: Target, examples: float) -> Self:
        """Choose candidates for texts, several tasks, a target domain or few labels, unless they are named."""
        if self.in_time or self.candidates != CANDIDATES:
            return self.with_time_controls()
        if labels == "tasks":
            return self.model_copy(update={"candidates": dict(TASK_CANDIDATES)})
        if labels == "single" and target == "domain":
            validator = DOMAIN_VALIDATOR if self.validator == "source" else self.validator
            judged = {"options": {"validator": validator}}
            candidates = {name: overlay(judged, changes) for name, changes in DOMAIN_CANDIDATES.items()}
            return self.model_copy(update={"candidates": candidates, "validator": validator})
        if labels == "single" and examples <= FEW and kind in FEW_LABELS:
            return self.model_copy(update={"candidates": dict(FEW_LABELS[kind])})
        if kind == "text":
            return self.model_copy(update={"candidates": dict(OF_ANSWERS if labels == "span" else OF_TEXTS)})
        return self

    def with_time_controls(self) -> Self:
        """Add the controls that candidates of tasks in time lack, and all of these if none is named."""
        present, candidates = list(self.candidates.values()), dict(TIME_CANDIDATES)
        if not self.in_time:
            return self
        if self.candidates != CANDIDATES:
            controls = {name: changes for name, changes in TIME_CONTROLS.items() if changes not in present}
            candidates = {**controls, **self.candidates}
        return self.model_copy(update={"candidates": candidates})

    def for_input(self, kind: str) -> Self:
        """Choose a learning rate for each candidate; the shared one stays where a candidate's would be the same."""
        shared = super().for_input(kind)
        if self.fit.lr:
            return shared
        candidates = dict(self.candidates)
        for name, recipe in self.recipes().items():
            chosen = recipe.fit.with_default_lr(kind, recipe.strategy).lr
            if recipe.fit.lr is None and chosen != shared.fit.lr:
                candidates[name] = overlay(candidates[name], {"fit": {"lr": chosen}})
        if self.candidates in (CANDIDATES, OF_TEXTS, OF_ANSWERS) and shared.fit.peak_lr != LR:
            candidates[LOWER] = {"fit": {"lr": THIRD * shared.fit.peak_lr}}
        return shared.model_copy(update={"candidates": candidates})

    def recipes(self) -> Mapping[str, Finetune]:
        """The settings of the candidates by name, without a time limit."""
        shared = {name: value for name, value in self.plain().items() if name not in COMPETITION_FIELDS}
        return {
            name: build(Finetune, overlay(shared, changes), f"candidate {name!r}")
            for name, changes in self.candidates.items()
        }

    def strategies(self, recipe: Mapping[str, Any] | None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the strategies and options of all candidates.

        Raises:
            SettingsError: If a candidate's strategy does not exist, or does not take its own options.
        """
        for candidate in self.workable_recipes().values():
            yield candidate.strategy, candidate.options

    def workable_recipes(self) -> dict[str, Finetune]:
        """The settings of the candidates by name, without shared options that a strategy does not accept.

        Raises:
            SettingsError: If a candidate's strategy does not exist, or does not take its own options.
        """
        return {name: self._choose_recipe(name, recipe) for name, recipe in self.recipes().items()}

    def _choose_recipe(self, name: str, recipe: Finetune) -> Finetune:
        # Here and not above: strategies load torch.
        from effxfer.transfer import STRATEGIES
        from effxfer.transfer.strategies import make_strategy

        options = self.candidates[name].get("options", {})
        if self.in_time and recipe.strategy in STRATEGIES:
            # Each takes what it knows of the shared ones: all have the batch, few a memory.
            fields = STRATEGIES[recipe.strategy].model_fields
            options = {key: value for key, value in recipe.options.items() if key in fields or key in options}
        unshared = recipe.model_copy(update={"options": options})
        try:
            make_strategy(recipe.strategy, recipe.options)
        # The shared `options` suit most candidates: a strategy that does not know them is not left out for that.
        except SettingsError:
            try:
                make_strategy(unshared.strategy, unshared.options)
            except SettingsError as error:
                raise SettingsError(f"candidate {name!r}: {error.problem}", error.hint) from None
            return unshared
        return recipe
