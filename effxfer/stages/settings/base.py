"""What every stage's settings tell the runner, whichever stage they are of; light, like all settings."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field

from effxfer.net.settings import BackboneSettings
from effxfer.settings import Settings
from effxfer.train.settings import FitSettings, Teacher

Seed = Annotated[int, Field(ge=0, lt=2**32)]
LEAST_TIME = 10  # a stage after slow ones still gets its own time divided by this


def _backbone(value: object) -> object:
    """Read a name as the source of a backbone."""
    if isinstance(value, dict):
        return {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}
    return {"source": value} if isinstance(value, str) else value


Backbone = Annotated[BackboneSettings, BeforeValidator(_backbone)]


class StageSettings(Settings):
    """Base of the settings of all stages: the fields that the runner reads where a stage has them."""

    NETWORK_FIELDS: ClassVar[tuple[str, ...]] = ("backbones", "control_backbones")

    @property
    def image_size(self) -> int | None:
        """Side of the stage's images in pixels; None is what the network takes."""
        size: int | None = getattr(self, "size", None)
        return size

    @property
    def networks(self) -> Mapping[str, tuple[BackboneSettings, ...]]:
        """The networks named beside the one that the stage starts from, by the name of the setting."""
        fields = {name: getattr(self, name, ()) for name in self.NETWORK_FIELDS}
        return {name: backbones for name, backbones in fields.items() if backbones}

    @property
    def teacher_network(self) -> BackboneSettings | None:
        """The network to distil from; None is no teacher, or the network that the stage starts from."""
        source = getattr(getattr(self, "teacher", None), "source", None)
        return BackboneSettings(source=source) if source else None

    def strategies(self, recipe: Mapping[str, Any] | None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the names and options of the strategies that the stage trains by.

        Args:
            recipe: Of the ticket that it trains; None where it trains none, or the ticket is not known yet.
        """
        if strategy := getattr(self, "strategy", None):
            yield strategy, getattr(self, "options", {})

    def check_resources(self) -> None:
        """Raise what the stage's settings need outside of this process and is not there, such as a server."""

    def with_extra_seconds(self, extra: float) -> Self:
        """Lengthen a limited stage by `extra` seconds, or shorten it if negative; a tenth of its own time is left."""
        seconds: float | None = getattr(self, "seconds", None)
        if seconds is None:
            return self
        return self.model_copy(update={"seconds": max(seconds + extra, seconds / LEAST_TIME)})


class TrainedSettings(StageSettings):
    """Base of the settings of all stages that train.

    Attributes:
        strategy: A key of `effxfer.transfer.STRATEGIES`.
        options: The strategy's own settings, such as batch size, augmentation and label smoothing.
        fit: Length, rate and schedule of each training.
        seed: Seed of a new head, the order of images, augmentation and dropout.
    """

    strategy: str = "full"
    options: dict[str, Any] = Field(default_factory=dict)
    fit: FitSettings = FitSettings()
    seed: Seed = 0


class DistilledSettings(TrainedSettings):
    """Base of the settings of the stages that can learn from another network as well.

    Attributes:
        teacher: Network to distil from, beside the labels: by default the one that the stage starts from.
    """

    teacher: Teacher = Teacher()
