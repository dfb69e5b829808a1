"""Settings of the stages that apply existing tickets and adapters; no heavy imports."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from effxfer.settings import build, overlay, problems
from effxfer.stages.settings.base import Seed, StageSettings
from effxfer.train.settings import FitSettings


class Ticket(StageSettings):
    """Train an existing ticket on a data set, by its own recipe or a changed one.

    Attributes:
        mask: Mask on the weights of the rewind point: the `ticket`; or, as a control, a `random` mask with equally many
            weights per layer (channels for a structured ticket), or `none`.
        strategy: Training strategy; None is the recipe's.
        options: Changes to the strategy's options.
        fit: Changes to the recipe's `fit`, such as `epochs`.
        size: Side of the input images in pixels; None keeps the current side.
        seed: Random seed of the new head, a random mask, the order of images, augmentation and dropout.
    """

    mask: Literal["none", "random", "ticket"] = "ticket"
    strategy: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    fit: dict[str, Any] = Field(default_factory=dict)
    size: int | None = Field(default=None, ge=8, le=4096)
    seed: Seed = 0

    @field_validator("fit")
    @classmethod
    def _check_fit(cls, value: dict[str, Any]) -> dict[str, Any]:
        wrong = problems(FitSettings, value)
        if wrong:
            raise ValueError("; ".join(wrong))
        return value

    def strategies(self, recipe: Mapping[str, Any] | None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield strategy and options of the recipe with the changes applied; nothing if the recipe is not known yet."""
        if recipe is not None:
            yield self.training(recipe)[:2]

    def training(self, recipe: Mapping[str, Any]) -> tuple[str, dict[str, Any], FitSettings]:
        """Return strategy, options and fit of a recipe with the changes of these settings applied.

        A strategy other than the recipe's starts from its own default options.

        Args:
            recipe: Name and settings of the stage that created the ticket: `{"stage": ..., "settings": {...}}`.
        """
        recorded = recipe["settings"]
        strategy = self.strategy or recorded["strategy"]
        # Options belong to their strategy: another would reject them, or take them to mean something else.
        options = overlay(recorded["options"] if strategy == recorded["strategy"] else {}, self.options)
        return strategy, options, build(FitSettings, overlay(recorded["fit"], self.fit), "fit")


class Adapter(StageSettings):
    """Apply an adapter to the body that it was trained on, and evaluate the result without training.

    Attributes:
        merge: Merge the adapter into the weights where possible; otherwise it stays separate until `export`.
    """

    merge: bool = True
