"""Settings of the competition of recipes; light, like `settings`."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, field_validator

from effxfer.errors import SettingsError
from effxfer.settings import build, overlaid, problems
from effxfer.stages.settings.base import Backbone
from effxfer.stages.settings.common import Finetune

CANDIDATES: dict[str, dict[str, Any]] = {
    "full": {},
    "frozen statistics": {"options": {"batchnorm": "frozen"}},
    "layer decay": {"fit": {"layer_decay": 0.75}},
    "probe, then full": {"strategy": "lp_ft"},
    "probe": {"strategy": "probe"},
    "a third of the rate": {"fit": {"lr": 3e-4}},
}
OWN = ("backbones", "candidates", "eta", "latency_penalty", "seconds")


class Compete(Finetune):
    """Let recipes compete for time: train all a little and the better ones longer, and keep the best network.

    Attributes:
        candidates: What each changes of the recipe that the other settings are, by name. Where its strategy does not
            take the options shared by all, it has its own alone.
        backbones: Networks to try every candidate on beside the one that the stage got, each a source or a table as
            `[backbone]` is.
        eta: Of those that were trained as long, one in so many goes on, and is trained so many times as long.
        latency_penalty: Points of validation accuracy that a network must be better by than one that is twice as fast;
            0 ignores latency.
        seconds: Time for the whole stage, of which candidates that were kept as long get as much; no training is longer
            than its share of `fit.epochs`. None: as many epochs instead.
    """

    candidates: dict[str, dict[str, Any]] = Field(default_factory=lambda: dict(CANDIDATES), min_length=1)
    backbones: tuple[Backbone, ...] = ()
    eta: int = Field(default=3, ge=2, le=10)
    latency_penalty: float = Field(default=0.0, ge=0)

    @field_validator("candidates")
    @classmethod
    def _are_recipes(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, changes in value.items():
            if "seconds" in changes or "seed" in changes:
                raise ValueError(f"{name}: seconds and seed are the same for all candidates")
            wrong = problems(Finetune, changes)
            if wrong:
                raise ValueError(f"{name}: {'; '.join(wrong)}")
        return value

    def recipes(self) -> Mapping[str, Finetune]:
        """The candidates' settings, by name, without a limit of time."""
        shared = {name: value for name, value in self.plain().items() if name not in OWN}
        return {
            name: build(Finetune, overlaid(shared, changes), f"candidate {name!r}")
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
        """The candidates' settings; those whose strategy does not take the shared options have their own alone.

        Raises:
            SettingsError: If a candidate's strategy does not exist, or does not take its own options.
        """
        return {name: self._workable(name, recipe) for name, recipe in self.recipes().items()}

    def _workable(self, name: str, recipe: Finetune) -> Finetune:
        from effxfer.transfer.strategies import make_strategy

        own = recipe.model_copy(update={"options": self.candidates[name].get("options", {})})
        try:
            make_strategy(recipe.strategy, recipe.options)
        except SettingsError:
            try:
                make_strategy(own.strategy, own.options)
            except SettingsError as error:
                raise SettingsError(f"candidate {name!r}: {error.problem}", error.hint) from None
            return own
        return recipe
