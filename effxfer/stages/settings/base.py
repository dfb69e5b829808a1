"""Base classes of the stages' settings, with the properties that the stage runner reads; no heavy imports."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field

from effxfer.errors import missing_package
from effxfer.net.settings import BackboneSettings
from effxfer.settings import Settings
from effxfer.train.settings import FitSettings, Teacher

# 32 bits: NumPy's RandomState, which Optuna's samplers draw from, takes no more.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Target = Literal["", "domain", "new classes"]
# Strategies of tasks in time, without loading torch; a test compares them with `STRATEGIES`.
CONTINUAL = ("der", "ewc", "gdumb", "icarl", "lwf", "nearest_mean", "replay", "si")
LEAST_TIME = 10  # a stage after slow stages keeps at least its own time divided by this


def require_runtime(runtime: str) -> None:
    """Refuse a runtime of exported files that is not installed.

    Raises:
        ResourceError: If it is OpenVINO, and that is not installed.
    """
    if runtime == "openvino" and not find_spec("openvino"):
        raise missing_package("openvino", "openvino", "files for OpenVINO")


def _backbone(value: object) -> object:
    """Convert a plain name into the settings of a backbone."""
    if isinstance(value, dict):
        return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
    return {"source": value} if isinstance(value, str) else value


Backbone = Annotated[BackboneSettings, BeforeValidator(_backbone)]


class StageSettings(Settings):
    """Base of all stage settings: properties that the runner reads, with defaults for stages without them."""

    NETWORK_FIELDS: ClassVar[tuple[str, ...]] = ("backbones", "control_backbones")
    takes: ClassVar[tuple[str, ...]] = ()  # kinds of label that the stage understands; empty for all
    several_tasks: ClassVar[bool] = False  # whether the stage understands tasks that share a network
    without_labels: ClassVar[bool] = False  # whether its strategies are those that learn without labels

    @property
    def image_size(self) -> int | None:
        """Side of the stage's input images in pixels; None keeps the network's input size."""
        size: int | None = getattr(self, "size", None)
        return size

    @property
    def in_time(self) -> bool:
        """Whether the tasks are learned one after another; otherwise all share the network at once."""
        return getattr(self, "strategy", "") in CONTINUAL

    @property
    def networks(self) -> Mapping[str, tuple[BackboneSettings, ...]]:
        """Additional networks that the settings name, keyed by setting."""
        fields = {name: getattr(self, name, ()) for name in self.NETWORK_FIELDS}
        return {name: backbones for name, backbones in fields.items() if backbones}

    @property
    def teacher_network(self) -> BackboneSettings | None:
        """External teacher network; None without a teacher, or if the stage's own start is the teacher."""
        source = getattr(getattr(self, "teacher", None), "source", None)
        return BackboneSettings(source=source) if source else None

    def strategies(self, recipe: Mapping[str, Any] | None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the name and options of each training strategy of the stage.

        Args:
            recipe: Recipe of the ticket to train; None without a ticket, or if the ticket does not exist yet.
        """
        if strategy := getattr(self, "strategy", None):
            yield strategy, getattr(self, "options", {})

    def for_input(self, kind: str) -> Self:
        """Choose what the settings leave to the kind of the network's input, a key of `INPUTS`."""
        return self

    def for_data(self, kind: str, labels: str, target: Target, examples: float) -> Self:
        """Choose what the settings leave to the data.

        Args:
            kind: Kind of input, a key of `INPUTS`.
            labels: Kind of label, a key of `OUTPUTS`.
            target: What the data have beside labelled examples: nothing, another `domain`, or `new classes`.
            examples: Median number of training examples of a class.
        """
        return self

    def check_resources(self) -> None:
        """Check external resources, such as a database server; raise if one is unavailable."""

    def with_extra_seconds(self, extra: float) -> Self:
        """Add `extra` seconds, possibly negative, to the time limit; at least a tenth of the limit remains."""
        seconds: float | None = getattr(self, "seconds", None)
        if seconds is None:
            return self
        return self.model_copy(update={"seconds": max(seconds + extra, seconds / LEAST_TIME)})


class TrainedSettings(StageSettings):
    """Base of the settings of all stages that train.

    Attributes:
        strategy: A key of `effxfer.transfer.STRATEGIES`.
        options: Settings of the strategy, such as batch size, augmentation and label smoothing.
        fit: Epochs, learning rate and schedule of each training run.
        seed: Random seed of a new head, the order of images, augmentation and dropout.
    """

    strategy: str = "full"
    options: dict[str, Any] = Field(default_factory=dict)
    fit: FitSettings = FitSettings()
    seed: Seed = 0

    def for_input(self, kind: str) -> Self:
        """Choose the learning rate by the kind of input and the strategy, if there is none."""
        return self.model_copy(update={"fit": self.fit.with_default_lr(kind, self.strategy)})


class DistilledSettings(TrainedSettings):
    """Base of the settings of stages that support knowledge distillation.

    Attributes:
        teacher: Distillation from a teacher network in addition to the labels; by default the stage's own start.
    """

    teacher: Teacher = Teacher()
