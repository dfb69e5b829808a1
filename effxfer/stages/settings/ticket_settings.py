"""Settings of what takes tickets and adapters that were found before; light, like `settings`."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from effxfer.settings import build, overlaid, problems
from effxfer.stages.settings.base import Seed, StageSettings
from effxfer.train.settings import FitSettings


class Ticket(StageSettings):
    """Train a ticket, as its recipe says or otherwise, on the task at hand.

    Attributes:
        mask: What is trained from the ticket's rewind point: the `ticket`, or a control with a `random` mask that keeps
            as many weights of each layer (of a structured ticket: as many channels), or with `none`.
        strategy: How to train; None is the recipe's.
        options: Changes to the strategy's options.
        fit: Changes to the recipe's `fit`, such as `epochs`.
        size: As in `finetune`.
        seed: Of the fresh head, of a random mask, and as in `finetune`.
    """

    mask: Literal["none", "random", "ticket"] = "ticket"
    strategy: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    fit: dict[str, Any] = Field(default_factory=dict)
    size: int | None = Field(default=None, ge=8, le=4096)
    seed: Seed = 0

    @field_validator("fit")
    @classmethod
    def _is_of_a_fit(cls, value: dict[str, Any]) -> dict[str, Any]:
        wrong = problems(FitSettings, value)
        if wrong:
            raise ValueError("; ".join(wrong))
        return value

    def strategies(self, recipe: Mapping[str, Any] | None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the strategy and options of the recipe, with what is changed here; nothing while it is not known."""
        if recipe is not None:
            yield self.training(recipe)[:2]

    def training(self, recipe: Mapping[str, Any]) -> tuple[str, dict[str, Any], FitSettings]:
        """Give strategy, its options, and the fit: a recipe's, with what is changed here.

        Another strategy than the recipe's begins with its own options.

        Args:
            recipe: Name and settings of the stage that found the ticket: `{"stage": ..., "settings": {...}}`.
        """
        told = recipe["settings"]
        same = self.strategy in (None, told["strategy"])
        options = overlaid(told["options"] if same else {}, self.options)
        return self.strategy or told["strategy"], options, build(FitSettings, overlaid(told["fit"], self.fit), "fit")


class Adapter(StageSettings):
    """Put an adapter on the body that it was trained on, and measure the result; trains nothing.

    Attributes:
        merge: Put what only changes weights into those weights; otherwise it stays until `export`.
    """

    merge: bool = True
